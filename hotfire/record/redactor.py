"""No secret value is ever written: one Redactor stands before the record, the reports and every text of a run.

It knows each value in the forms in which it travels: plain, JSON-escaped, URL-encoded, base64 (at any offset, so that
`user:password` of a basic-auth header is found too), each line of a longer text, each credential of a docker config.
"""

import base64
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, quote_plus

from hotfire.errors import BadInput, HarnessError

SHORTEST = 6  # characters; what is shorter is found all over ordinary text, and its removal would tell what it is
LONG_LINE = 12  # characters; a line of a PEM key, not a brace of a JSON file
CREDENTIALS = frozenset({"auth", "password", "identitytoken", "registrytoken", "token"})


class Redactor:
    """Knows secret values and takes them out of texts and JSON-like values. Thread-safe.

    All values are added before the first line of the record; `seal` holds that.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._forms: dict[str, str] = {}  # form -> what to write instead
        self._pattern: re.Pattern[str] | None = None
        self._sealed = False
        self._lock = threading.Lock()
        for name, value in (secrets or {}).items():
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Learn a value; `name` (such as hf-token/token) is what stands in its place. Surrounding blanks do not count.

        Raises BadInput for a value too short to be told from ordinary text, HarnessError once a line has been written.
        """
        value = value.strip()
        if len(value) < SHORTEST:
            raise BadInput(
                f"secret {name}: {len(value)} characters, at least {SHORTEST} are needed: a shorter one is part of ordinary "
                f"words and cannot be kept out of logs and reports"
            )
        with self._lock:
            if self._sealed:
                raise HarnessError(f"secret {name} was learned after the record's first line, which may hold it")
            for part in _parts(value):
                for form in _forms(part):
                    self._forms.setdefault(form, f"[redacted {name}]")
            self._compile()

    @classmethod
    def of(cls, forms: Mapping[str, str]) -> Self:
        """One that knows what another told by `forms`: where that one's texts come about in another process."""
        made = cls()
        made._forms = dict(forms)
        if forms:
            made._compile()
        return made

    def _compile(self) -> None:
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    @property
    def forms(self) -> dict[str, str]:
        """Each form of each value, and what to write instead. Secret."""
        with self._lock:
            return dict(self._forms)

    def seal(self) -> None:
        """From now on no value can be added."""
        with self._lock:
            self._sealed = True

    def text(self, text: str) -> str:
        """The text without any known value."""
        pattern = self._pattern
        return text if pattern is None else pattern.sub(lambda found: self._forms[found.group()], text)

    def value(self, value: Any) -> Any:
        """A JSON-like value with every string leaf and key redacted; a whole number that is a secret becomes a text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        if isinstance(value, int) and not isinstance(value, bool) and (clean := self.text(str(value))) != str(value):
            return clean
        return value

    def names_in(self, text: str) -> frozenset[str]:
        """Names of the secrets of which some form is in the text: for a last scan of what was written by others."""
        pattern = self._pattern
        found = pattern.findall(text) if pattern is not None else ()
        return frozenset(self._forms[form].removeprefix("[redacted ").removesuffix("]") for form in found)


def _parts(value: str) -> Iterator[str]:
    """The value, its long lines, and the credentials inside it when it is JSON (a docker config)."""
    yield value
    if "\n" in value:
        yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= LONG_LINE)
    if value.startswith("{"):
        try:
            parsed = json.loads(value)
        except ValueError:
            return
        yield from _credentials(parsed)


def _credentials(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and key.lower() in CREDENTIALS and len(inner) >= SHORTEST:
                yield inner
            else:
                yield from _credentials(inner)


def _forms(value: str) -> Iterable[str]:
    escaped = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    encoded = quote(value, safe=""), quote(value), quote_plus(value)
    lower = (re.sub("%[0-9A-F]{2}", lambda found: found.group().lower(), form) for form in encoded)
    return {value, *escaped, *encoded, *lower, *_base64(value.encode())}


def _base64(value: bytes) -> Iterator[str]:
    """What is sure to be in any base64 text that holds these bytes, at each of the three offsets, in both alphabets."""
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + value).decode().rstrip("=")
        begin = -(-offset * 4 // 3)  # characters that still depend on what stands before
        end = len(text) if (offset + len(value)) % 3 == 0 else len(text) - 1  # and on what follows
        core = text[begin:end]
        if len(core) >= SHORTEST:
            yield from {core, core.replace("+", "-").replace("/", "_")}

"""The plan of requests: everything random is drawn beforehand from one seed, so that a run replays bit for bit.

`plan.jsonl`: a header, one line per prompt, one line per request in the order of sending. The first `warm_up` requests
are sent and not counted. The counted ones end at `looks[-1]`, the cap; the run proceeds look by look. `due_us` counts
from the start of the load. For a spaced load it is the earliest moment: the next request is due at the later of that
period after the previous one was due, and the previous one's end.
"""

import hashlib
import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from hotfire.errors import BadInput, HarnessError

FORMAT = 1
_RATE = r"(\d+(?:\.\d+)?)/(s|m)"
_TIME = r"(\d+(?:\.\d+)?)(ms|s|m|h)"
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
GRAMMAR = {
    "spaced": rf"spaced {_TIME}",
    "closed": r"closed ([1-9]\d*)",
    "constant": rf"constant {_RATE}",
    "poisson": rf"poisson {_RATE}",
    "gamma": rf"gamma {_RATE} shape (\d+(?:\.\d+)?)",
    "ramp": rf"ramp {_RATE} to {_RATE} over {_TIME}",
    "steps": rf"steps ((?:{_RATE} )+)each {_TIME}",
    "bursts": rf"bursts (\d+) every {_TIME}",
    "replay": r"replay (.+)",
}


@dataclass(frozen=True)
class Prompt:
    """A text to send. max_tokens: None takes the plan's."""

    id: str
    text: str
    max_tokens: int | None = None


@dataclass(frozen=True)
class Item:
    """One planned request. due_us: microseconds from the start of the load."""

    index: int
    due_us: int
    prompt: str
    max_tokens: int


@dataclass(frozen=True)
class Header:
    """What the whole plan has in common. looks: counted requests in the window at each look, ascending."""

    hotfire_plan: int
    seed: int
    arrivals: str
    warm_up: int
    looks: tuple[int, ...]
    unique: bool = False  # each prompt starts with a text of its own: no prefix cache can hit
    period_us: int = 0  # spaced only
    closed: int = 0  # so many at a time, the next when one ends: for capacity and soak, its latencies hide every stall

    @property
    def spaced(self) -> bool:
        """One at a time, paced."""
        return self.period_us > 0

    @property
    def waits(self) -> bool:
        """Whether a request may have to wait for another to end."""
        return self.spaced or self.closed > 0

    @property
    def requests(self) -> int:
        return self.warm_up + self.looks[-1]


@dataclass(frozen=True)
class Plan:
    """A plan on disk."""

    path: Path
    digest: str
    header: Header

    def items(self) -> Iterator[Item]:
        """The requests in order; the file is read as it goes."""
        for line in _lines(self.path):
            if "i" in line:
                yield Item(line["i"], line["due_us"], line["prompt"], line["max_tokens"])

    def prompts(self) -> dict[str, str]:
        """The texts by id."""
        out = {}
        for line in _lines(self.path):
            if "i" in line:
                break
            if "text" in line:
                out[line["prompt"]] = line["text"]
        return out

    def text(self, prompts: dict[str, str], item: Item) -> str:
        """What this request says."""
        text = prompts[item.prompt]
        return f"({self.header.seed}-{item.index}) {text}" if self.header.unique else text


def draw(
    path: Path,
    arrivals: str,
    prompts: Sequence[Prompt],
    looks: Sequence[int],
    *,
    seed: int = 42,
    warm_up: int = 0,
    max_tokens: int = 16,
    unique: bool = False,
) -> Plan:
    """Write the plan: `arrivals` as in GRAMMAR, looks: counted requests at each look, ascending (`gates.look_sizes`).

    The same arguments give the same bytes. Raises BadInput for arrivals that are not understood.
    """
    if not prompts or not looks or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise HarnessError(f"a plan needs prompts and ascending looks, not {len(prompts)} and {list(looks)}")
    dues = due_times(arrivals, seed)
    spaced = re.fullmatch(GRAMMAR["spaced"], arrivals)
    period = round(_seconds(spaced[1], spaced[2]) * 1e6) if spaced else 0
    closed = re.fullmatch(GRAMMAR["closed"], arrivals)
    header = Header(FORMAT, seed, arrivals, warm_up, tuple(looks), unique, period, int(closed[1]) if closed else 0)
    choose = random.Random(f"{seed}/prompts")
    order: list[Prompt] = []
    with path.open("w", encoding="utf-8") as out:
        _write(out, asdict(header))
        for prompt in prompts:
            _write(out, {"prompt": prompt.id, "text": prompt.text})
        for index in range(header.requests):
            if not order:  # every prompt once before any comes again
                order = choose.sample(list(prompts), len(prompts))
            prompt = order.pop()
            due = next(dues, None)
            if due is None:
                raise BadInput(f"{arrivals}: only {index} arrivals, {header.requests} are needed")
            _write(
                out,
                {"i": index, "due_us": round(due * 1e6), "prompt": prompt.id, "max_tokens": prompt.max_tokens or max_tokens},
            )
    return Plan(path, digest_of(path), header)


def load(path: Path, digest: str | None = None) -> Plan:
    """Read a plan's header. Raises BadInput when the file is no plan, or is not the one with this digest."""
    found = digest_of(path)
    if digest and found != digest:
        raise BadInput(f"{path}: the plan was changed: sha256 {found[:12]}, {digest[:12]} is expected")
    head = next(_lines(path), {})
    if head.get("hotfire_plan") != FORMAT:
        raise BadInput(f"{path}: not a plan of format {FORMAT}")
    return Plan(path, found, Header(**{**head, "looks": tuple(head["looks"])}))


def read_prompts(path: Path) -> list[Prompt]:
    """A JSONL file of {prompt, max_tokens?}. Raises BadInput with one line per broken line of the file."""
    out, wrong = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            text, tokens = data["prompt"], data.get("max_tokens")
        except (ValueError, KeyError, TypeError, AttributeError):
            wrong.append(f'{path}:{number}:1: not a prompt, {{"prompt": TEXT, "max_tokens": N}} is expected')
            continue
        if not isinstance(text, str) or not text or not (tokens is None or (type(tokens) is int and tokens > 0)):
            wrong.append(f"{path}:{number}:1: prompt is a text that is not empty, max_tokens a positive number")
            continue
        out.append(Prompt(f"p{number}", text, tokens))
    if wrong or not out:
        raise BadInput(*(wrong or [f"{path}:1:1: no prompts in it"]))
    return out


def due_times(arrivals: str, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests are due, ascending; endless but for replay."""
    for kind, pattern in GRAMMAR.items():
        found = re.fullmatch(pattern, arrivals)
        if found:
            steps: Iterator[float] = _KINDS[kind](found.groups(), random.Random(f"{seed}/arrivals"))
            return steps
    raise BadInput(f"arrivals: {arrivals!r} is not understood, one of {', '.join(GRAMMAR)} is expected")


def digest_of(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seconds(number: str, unit: str) -> float:
    seconds = float(number) * _UNITS[unit]
    if seconds <= 0:
        raise BadInput(f"arrivals: {number}{unit} is no time between requests")
    return seconds


def _rate(number: str, per: str) -> float:
    rate = float(number) / _UNITS[per]
    if rate <= 0:
        raise BadInput(f"arrivals: {number}/{per} has no positive rate")
    return rate


def _every(gap: float) -> Iterator[float]:
    return (index * gap for index in _count())


def _count() -> Iterator[int]:
    index = 0
    while True:
        yield index
        index += 1


def _gaps(draw_gap: Any) -> Iterator[float]:
    at = 0.0
    while True:
        at += draw_gap()
        yield at


def _of_rate(level: Any) -> Iterator[float]:
    """Poisson thinning would waste draws; unit steps of the integrated rate keep a ramp smooth. level: (k) -> time."""
    return (level(index) for index in _count())


def _ramp(g: tuple[str, ...], rng: random.Random) -> Iterator[float]:
    first, last, over = _rate(g[0], g[1]), _rate(g[2], g[3]), _seconds(g[4], g[5])
    slope, in_ramp = (last - first) / over, (first + last) / 2 * over

    def when(k: int) -> float:
        if k >= in_ramp:
            return over + (k - in_ramp) / last
        return k / first if not slope else (math.sqrt(first * first + 2 * slope * k) - first) / slope

    return _of_rate(when)


def _steps(g: tuple[str, ...], rng: random.Random) -> Iterator[float]:
    rates = [_rate(*pair) for pair in re.findall(_RATE, g[0])]
    each = _seconds(g[-2], g[-1])
    start = 0.0
    for rate in rates[:-1]:
        yield from (start + k / rate for k in range(math.ceil(rate * each)))
        start += each
    yield from (start + k / rates[-1] for k in _count())


def _bursts(g: tuple[str, ...], rng: random.Random) -> Iterator[float]:
    size, every = int(g[0]), _seconds(g[1], g[2])
    return (k // size * every for k in _count())


def _replay(g: tuple[str, ...], rng: random.Random) -> Iterator[float]:
    """Due times of another plan, or of any JSONL with `due_us`."""
    path = Path(g[0])
    if not path.is_file():
        raise BadInput(f"arrivals: replay {path}: no such file")
    dues = sorted(line["due_us"] for line in _lines(path) if "due_us" in line)
    return ((due - dues[0]) / 1e6 for due in dues)


_KINDS: dict[str, Any] = {
    "spaced": lambda g, rng: _every(_seconds(*g)),
    "closed": lambda g, rng: _every(0.0),
    "constant": lambda g, rng: _every(1 / _rate(*g)),
    "poisson": lambda g, rng: _gaps(lambda: rng.expovariate(_rate(*g))),
    "gamma": lambda g, rng: _gaps(lambda: rng.gammavariate(float(g[2]), 1 / (float(g[2]) * _rate(g[0], g[1])))),
    "ramp": _ramp,
    "steps": _steps,
    "bursts": _bursts,
    "replay": _replay,
}


def _write(out: IO[str], line: dict[str, Any]) -> None:
    out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    data = json.loads(line)
                except ValueError:
                    raise BadInput(f"{path}:{number}:1: not JSON") from None
                yield data if isinstance(data, dict) else {}
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None

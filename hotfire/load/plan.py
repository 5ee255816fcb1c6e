"""The plan of requests: everything random is drawn beforehand from one seed, so that a run replays bit for bit.

`plan.jsonl`: a header, one line per prompt, one line per request in the order of sending. The first `warm_up` requests
are sent and not counted. The counted ones end at `looks[-1]`, the cap; the run proceeds look by look. `due_us` counts
from the start of the load. For a spaced load it is the earliest moment: the next request is due at the later of that
period after the previous one was due, and the previous one's end. A text of made-up words is not written out: seed and
index say which words they are, the item how many.
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
from hotfire.scenario import datafiles

FORMAT = 1
WORDS = re.findall(
    r"\S+",
    "the a of to in and that it is was for on are with as by at from this have which one all were each their said would "
    "there what so up out if about who get time then no into just him your some could them see other than now look only "
    "come its over think also back after use two how our work first well way even new want because any these day most us",
)
_RATE = r"(\d+(?:\.\d+)?)/(s|m)"
_TIME = r"((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)"
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
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
class Lengths:
    """How texts are made up and how long answers are: `fixed N`, `uniform N to N` or `lognormal MEAN cv CV`; empty for what
    the prompts say. prefix: words that the prompts of one of `groups` begin with in common."""

    prompt_words: str = ""
    answer_tokens: str = ""
    prefix: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Item:
    """One planned request. due_us: microseconds from the start of the load; words: of a made-up text, 0 for a prompt of the
    plan; group: which of the shared beginnings it has."""

    index: int
    due_us: int
    prompt: str
    max_tokens: int
    words: int = 0
    group: int = 0


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
    prefix: int = 0  # words that the prompts of a group begin with

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
                yield Item(
                    line["i"], line["due_us"], line["prompt"], line["max_tokens"], line.get("words", 0), line.get("group", 0)
                )  # fmt: skip

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
        seed = self.header.seed
        text = made_up(f"{seed}/{item.index}", item.words) if item.words else prompts[item.prompt]
        if self.header.prefix:
            text = f"{made_up(f'{seed}/prefix/{item.group}', self.header.prefix)} {text}"
        return f"({seed}-{item.index}) {text}" if self.header.unique else text


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
    lengths: Lengths | None = None,
    beside: Path | None = None,
) -> Plan:
    """Write the plan: `arrivals` as in GRAMMAR, looks: counted requests at each look, ascending (`gates.look_sizes`).

    beside: the folder in which a file to replay lies. The same arguments give the same bytes. Raises BadInput for arrivals
    that are not understood.
    """
    lengths = lengths or Lengths()
    if not prompts or not looks or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise HarnessError(f"a plan needs prompts and ascending looks, not {len(prompts)} and {list(looks)}")
    dues = due_times(arrivals, seed, beside)
    words, tokens = (spread(text, random.Random(f"{seed}/{what}")) for text, what in
                     ((lengths.prompt_words, "words"), (lengths.answer_tokens, "tokens")))  # fmt: skip
    group = random.Random(f"{seed}/groups")
    spaced = re.fullmatch(GRAMMAR["spaced"], arrivals)
    period = round(_seconds(spaced[1]) * 1e6) if spaced else 0
    closed = re.fullmatch(GRAMMAR["closed"], arrivals)
    streams = int(closed[1]) if closed else 0
    header = Header(FORMAT, seed, arrivals, warm_up, tuple(looks), unique, period, streams, lengths.prefix)
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
            asked = prompt.max_tokens or next(tokens, max_tokens)
            line = {"i": index, "due_us": round(due * 1e6), "prompt": prompt.id, "max_tokens": asked}
            line |= {"words": next(words)} if lengths.prompt_words else {}
            _write(out, line | ({"group": group.randrange(lengths.groups)} if lengths.prefix else {}))
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
    """A JSONL file of {prompt, max_tokens?}, read as lint reads it. Raises BadInput with a line for each broken line."""
    rows = enumerate(datafiles.read_prompts(path), 1)
    return [Prompt(f"p{number}", row["prompt"], row.get("max_tokens")) for number, row in rows]


def due_times(arrivals: str, seed: int, beside: Path | None = None) -> Iterator[float]:
    """Seconds from the start at which requests are due, ascending; endless but for replay, whose file lies `beside`."""
    for kind, pattern in GRAMMAR.items():
        found = re.fullmatch(pattern, arrivals)
        if found and kind == "replay":
            return iter(datafiles.read_dues((beside or Path()) / found[1]))
        if found:
            steps: Iterator[float] = _KINDS[kind](found.groups(), random.Random(f"{seed}/arrivals"))
            return steps
    raise BadInput(f"arrivals: {arrivals!r} is not understood, one of {', '.join(GRAMMAR)} is expected")


def digest_of(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spread(text: str, rng: random.Random) -> Iterator[int]:
    """Lengths as `fixed N`, `uniform N to N` or `lognormal MEAN cv CV` says, 1 at least; endless, but nothing for ''."""
    kind, *words = text.split() or [""]
    numbers = [float(word) for word in words if word[0].isdigit()]
    if kind == "lognormal":
        mean, variance = numbers[0], math.log1p(numbers[1] ** 2)
        centre = math.log(mean) - variance / 2
        while True:
            yield max(1, round(rng.lognormvariate(centre, math.sqrt(variance))))
    while kind:
        yield rng.randint(int(numbers[0]), int(numbers[-1]))


def made_up(seed: str, words: int) -> str:
    """So many words; the same seed gives the same ones."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def _seconds(text: str) -> float:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise BadInput(f"arrivals: {text} is no time between requests")
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
    first, last, over = _rate(g[0], g[1]), _rate(g[2], g[3]), _seconds(g[4])
    slope, in_ramp = (last - first) / over, (first + last) / 2 * over

    def when(k: int) -> float:
        if k >= in_ramp:
            return over + (k - in_ramp) / last
        return k / first if not slope else (math.sqrt(first * first + 2 * slope * k) - first) / slope

    return _of_rate(when)


def _steps(g: tuple[str, ...], rng: random.Random) -> Iterator[float]:
    rates = [_rate(*pair) for pair in re.findall(_RATE, g[0])]
    each = _seconds(g[-1])
    start = 0.0
    for rate in rates[:-1]:
        yield from (start + k / rate for k in range(math.ceil(rate * each)))
        start += each
    yield from (start + k / rates[-1] for k in _count())


def _bursts(g: tuple[str, ...], rng: random.Random) -> Iterator[float]:
    size, every = int(g[0]), _seconds(g[1])
    return (k // size * every for k in _count())


_KINDS: dict[str, Any] = {
    "spaced": lambda g, rng: _every(_seconds(g[0])),
    "closed": lambda g, rng: _every(0.0),
    "constant": lambda g, rng: _every(1 / _rate(*g)),
    "poisson": lambda g, rng: _gaps(lambda: rng.expovariate(_rate(*g))),
    "gamma": lambda g, rng: _gaps(lambda: rng.gammavariate(float(g[2]), 1 / (float(g[2]) * _rate(g[0], g[1])))),
    "ramp": _ramp,
    "steps": _steps,
    "bursts": _bursts,
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

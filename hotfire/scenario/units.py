"""Quantities as people write them: `350ms`, `2m`, `0.5%`, `< 350ms`, `poisson 8/s`. A bare number is refused.

Durations are seconds (float), shares are 0..1 (float), rates are requests per second (float).
"""

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import durationpy
from pydantic import BeforeValidator, GetJsonSchemaHandler, ValidationInfo, WithJsonSchema
from pydantic_core import core_schema

from hotfire.errors import BadInput

_N = r"\d+(?:\.\d+)?"
_DURATION = rf"(?=\d)(?:{_N}d)?(?:{_N}h)?(?:{_N}m)?(?:{_N}s)?(?:{_N}ms)?"
_SHARE = r"\d+(?:\.\d+)?%"


def _shown(value: object) -> str:
    """A bare number without quotes, as it stands in the file."""
    return str(value) if re.fullmatch(r"-?[0-9.]+", str(value)) else repr(value)


def parse_duration(text: object) -> float:
    """`1m30s` -> 90.0. Raises ValueError for a bare number or an unknown unit."""
    if isinstance(text, float) and not isinstance(text, bool):
        return text  # already parsed: a model built from a model
    if not isinstance(text, str) or not re.fullmatch(_DURATION, text):
        raise ValueError(f"{_shown(text)} is not a duration, a number with a unit is expected, such as 350ms, 30s, 2m, 1h")
    try:
        return float(durationpy.from_str(text).total_seconds())
    except (OverflowError, durationpy.DurationError):
        raise ValueError(f"{text[:40]!r} is too long a time, such as 350ms, 30s, 2m, 1h is expected") from None


def duration_of(option: str, text: str) -> float:
    """Of a command's option. Raises BadInput."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadInput(f"{option}: {error}") from None


def parse_share(text: object) -> float:
    """`0.5%` -> 0.005. Raises ValueError without the percent sign or above 100 %."""
    if isinstance(text, float):
        return text
    if not isinstance(text, str) or not re.fullmatch(_SHARE, text):
        raise ValueError(f"{_shown(text)} is not a share, a number with a percent sign is expected, such as 0.5%")
    share = float(text[:-1]) / 100
    if share > 1:
        raise ValueError(f"{text!r} is above 100%")
    return share


FROM_FILE = {"from_file": True}  # validation context: a float is then a bare number somebody wrote, not a parsed value


def _written(value: object, info: ValidationInfo) -> object:
    bare = info.context == FROM_FILE and isinstance(value, int | float)
    return str(value) if bare else value  # as text it has no unit, and is refused with the message that says so


def parse_confidence(text: object) -> float | str:
    """`95%` -> 0.95; `none` stays: a point estimate, never a proof."""
    return "none" if text == "none" else parse_share(text)


_READ = BeforeValidator(_written)
Duration = Annotated[
    float, BeforeValidator(parse_duration), _READ, WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$"})
]
Share = Annotated[float, BeforeValidator(parse_share), _READ, WithJsonSchema({"type": "string", "pattern": f"^{_SHARE}$"})]
Confidence = Annotated[
    float | Literal["none"],
    BeforeValidator(parse_confidence),
    _READ,
    WithJsonSchema({"type": "string", "pattern": f"^(?:{_SHARE}|none)$"}),
]


class _Written:
    """A value written as one string; keeps the string for reports."""

    text: str
    PATTERN = ".*"
    EXAMPLE = ""

    @classmethod
    def parse(cls, text: str) -> Any:
        raise ValueError(f"{text!r} is not understood, {cls.EXAMPLE} is expected")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> core_schema.CoreSchema:
        def validate(value: object) -> object:
            if isinstance(value, cls):
                return value
            if not isinstance(value, str) or not re.fullmatch(cls.PATTERN, value):
                raise ValueError(f"{value!r} is not understood, {cls.EXAMPLE} is expected")
            return cls.parse(value)

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.text)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{cls.PATTERN})$", "examples": [cls.EXAMPLE]}


@dataclass(frozen=True)
class Limit(_Written):
    """An upper limit on a duration or a share: `< 350ms` or `< 0.5%`. value: seconds, or 0..1 when is_share."""

    text: str
    value: float
    is_share: bool
    PATTERN = rf"<=?\s*(?:{_DURATION}|{_SHARE})"
    EXAMPLE = "'< 350ms' or '< 0.5%'"

    @classmethod
    def parse(cls, text: str) -> "Limit":
        bare = text.lstrip("<= \t")
        return cls(text, parse_share(bare), True) if bare.endswith("%") else cls(text, parse_duration(bare), False)


@dataclass(frozen=True)
class Floor(Limit):
    """A lower limit on a share: `> 95%`."""

    PATTERN = rf">=?\s*{_SHARE}"
    EXAMPLE = "'> 95%'"

    @classmethod
    def parse(cls, text: str) -> "Floor":
        return cls(text, parse_share(text.lstrip(">= \t")), True)


_RATE = rf"{_N}/(?:s|m)"
LEAST_RATE, MOST_RATE, MOST_AT_ONCE = 1e-5, 1e5, 100_000


@dataclass(frozen=True)
class Cap(Limit):
    """How much of what users are served with may be the run's: `10%` of the requests there are, or `2/s`. value: 0..1 when
    is_share, else per second."""

    PATTERN = rf"{_SHARE}|{_RATE}"
    EXAMPLE = "'10%' or '2/s'"

    @classmethod
    def parse(cls, text: str) -> "Cap":
        if text.endswith("%"):
            return cls(text, parse_share(text), True)
        try:
            return cls(text, _per_second(text), False)
        except _NotPositive:
            raise ValueError(f"{text!r} is no rate above 0, {cls.EXAMPLE} is expected") from None


@dataclass(frozen=True)
class Arrivals(_Written):
    """When requests are due. An open loop sends on time whatever became of those before; `spaced` and `closed` wait.

    period: seconds between requests on average, at the last level; lead: requests before that level is reached (a ramp, lower
    steps), which are warm-up; lead_s: how long they take; most: the highest rate; size: of a burst, or streams of `closed`;
    dues: of a replay, seconds from its first, once its file was read.
    """

    text: str
    kind: str
    period: float
    most: float = 0.0
    lead: int = 0
    lead_s: float = 0.0
    size: int = 0
    shape: float = 1.0
    file: str = ""
    dues: tuple[float, ...] = field(default=(), repr=False)
    PATTERN = (
        rf"spaced {_DURATION}|(?:poisson|constant) {_RATE}|gamma {_RATE} shape {_N}|ramp {_RATE} to {_RATE} over {_DURATION}"
        rf"|steps (?:{_RATE} ){{2,}}each {_DURATION}|bursts \d+ every {_DURATION}|replay \S.*|closed \d+"
    )
    EXAMPLE = "'spaced 1s', 'poisson 8/s' or 'constant 30/m' (or gamma, ramp, steps, bursts, replay, closed)"

    @property
    def rate(self) -> float:
        """Per second, at the last level; inf for `closed`, which goes as fast as the target does."""
        return 1 / self.period if self.period else math.inf

    @property
    def peak(self) -> float:
        """Per second, at its highest level."""
        return max(self.most, self.rate)

    @property
    def open(self) -> bool:
        """Whether requests are sent on time whatever became of those before."""
        return self.kind not in ("spaced", "closed")

    @property
    def steady(self) -> str:
        """What goes on at the last level for ever: the background traffic of a fault."""
        if self.kind in ("ramp", "steps"):
            return f"constant {self.rate:.9g}/s"
        return f"poisson {self.rate:.9g}/s" if self.kind == "replay" else self.text

    def crowd(self, seconds: float) -> float:
        """How many requests may be due within that long, at its busiest."""
        if self.kind == "closed":
            return self.size
        if self.kind == "bursts":
            return self.size * (math.floor(seconds / (self.size * self.period) + 1e-9) + 1)
        if self.kind == "replay":
            ends = (bisect_right(self.dues, due + seconds) for due in self.dues)
            return max((end - start for start, end in enumerate(ends)), default=0)
        spread = 3 * math.sqrt(self.rate * seconds / self.shape) if self.kind in ("gamma", "poisson") else 0.0
        return self.peak * seconds + spread

    def resolved(self, dues: Sequence[float]) -> "Arrivals":
        """A replay whose file was read: due times in seconds, ascending, from 0."""
        if len(dues) < 2 or dues[-1] <= 0:
            raise ValueError(f"{self.file} holds {len(dues)} arrivals at one moment, at least two moments are expected")
        return replace(self, dues=tuple(dues), period=dues[-1] / (len(dues) - 1))

    @classmethod
    def parse(cls, text: str) -> "Arrivals":
        try:
            found = cls._parsed(text)
        except _NotPositive:
            raise ValueError(f"{text!r} has no positive rate, {cls.EXAMPLE} is expected") from None
        if found.size > MOST_AT_ONCE or (found.period and not (found.rate >= LEAST_RATE and found.peak <= MOST_RATE)):
            bounds = f"{LEAST_RATE:f}/s to {MOST_RATE:,.0f}/s, {MOST_AT_ONCE:,} at once at most"
            raise ValueError(f"{text[:60]!r} is no load that a client carries, {bounds} are allowed")
        return found

    @classmethod
    def _parsed(cls, text: str) -> "Arrivals":
        kind, *words = text.split()
        match kind:
            case "spaced":
                period = _above_zero(parse_duration(words[0]))
                return cls(text, kind, period, most=1 / period)
            case "gamma":
                rate, shape = _per_second(words[0]), _above_zero(float(words[2]))
                return cls(text, kind, 1 / rate, most=rate, shape=shape)
            case "ramp":
                first, last, over = _per_second(words[0]), _per_second(words[2]), _above_zero(parse_duration(words[4]))
                lead = math.ceil((first + last) / 2 * over - 1e-9)
                return cls(text, kind, 1 / last, most=max(first, last), lead=lead, lead_s=over)
            case "steps":
                rates, each = [_per_second(word) for word in words[:-2]], _above_zero(parse_duration(words[-1]))
                lead = sum(math.ceil(rate * each) for rate in rates[:-1])
                return cls(text, kind, 1 / rates[-1], most=max(rates), lead=lead, lead_s=each * (len(rates) - 1))
            case "bursts":
                size, every = int(_above_zero(int(words[0]))), _above_zero(parse_duration(words[2]))
                return cls(text, kind, every / size, most=size / min(every, 1.0), size=size)
            case "replay":
                return cls(text, kind, 1.0, file=text.split(" ", 1)[1])
            case "closed":
                return cls(text, kind, 0.0, size=int(_above_zero(int(words[0]))))
        return cls(text, kind, 1 / _per_second(words[0]), most=_per_second(words[0]))


class _NotPositive(Exception):
    """A rate or a time of nothing."""


def _above_zero(value: float) -> float:
    if value <= 0:
        raise _NotPositive
    return value


def _per_second(text: str) -> float:
    number, per = text.split("/")
    return _above_zero(float(number) / {"s": 1, "m": 60}[per])


@dataclass(frozen=True)
class Spread(_Written):
    """How long texts are: `fixed 200`, `uniform 50 to 400` or `lognormal 200 cv 0.5` (mean and coefficient of variation)."""

    text: str
    least: int
    mean: float
    PATTERN = rf"fixed [1-9]\d{{0,5}}|uniform [1-9]\d{{0,5}} to [1-9]\d{{0,5}}|lognormal [1-9]\d{{0,5}} cv {_N}"
    EXAMPLE = "'fixed 200', 'uniform 50 to 400' or 'lognormal 200 cv 0.5'"

    @classmethod
    def parse(cls, text: str) -> "Spread":
        kind, first, *rest = text.split()
        if kind == "uniform":
            if int(rest[1]) < int(first):
                raise ValueError(f"{text!r} ends before it begins, {cls.EXAMPLE} is expected")
            return cls(text, int(first), (int(first) + int(rest[1])) / 2)
        return cls(text, int(first) if kind == "fixed" else 1, float(first))


def parse_warm_up(value: object) -> int | float | None:
    """A number of requests, or a duration -> seconds (float)."""
    if value is None or isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(f"{value!r} is no warm-up, a number of requests or a duration such as 30s is expected")


def _written_warm_up(value: object, info: ValidationInfo) -> object:
    return value if isinstance(value, int) else _written(value, info)


WarmUp = Annotated[
    int | float | None,
    BeforeValidator(parse_warm_up),
    BeforeValidator(_written_warm_up),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_DURATION}$"}]}),
]

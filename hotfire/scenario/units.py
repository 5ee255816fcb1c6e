"""Quantities as people write them: `350ms`, `2m`, `0.5%`, `< 350ms`, `poisson 8/s`. A bare number is refused.

Durations are seconds (float), shares are 0..1 (float), rates are requests per second (float).
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import durationpy
from pydantic import BeforeValidator, GetJsonSchemaHandler, ValidationInfo, WithJsonSchema
from pydantic_core import core_schema

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
    return float(durationpy.from_str(text).total_seconds())


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
class Arrivals(_Written):
    """When requests are due: `spaced 1s` (one at a time, paced), `poisson 8/s` or `constant 8/s` (open loop).

    period: seconds between requests on average; rate: its inverse, per second.
    """

    text: str
    kind: str
    period: float
    PATTERN = rf"spaced {_DURATION}|(?:poisson|constant) \d+(?:\.\d+)?/(?:s|m)"
    EXAMPLE = "'spaced 1s', 'poisson 8/s' or 'constant 30/m'"

    @property
    def rate(self) -> float:
        return 1 / self.period

    @classmethod
    def parse(cls, text: str) -> "Arrivals":
        kind, amount = text.split(" ", 1)
        if kind == "spaced":
            period = parse_duration(amount)
        else:
            number, per = amount.split("/")
            rate = float(number) / {"s": 1, "m": 60}[per]
            period = 1 / rate if rate else 0.0
        if period <= 0:
            raise ValueError(f"{text!r} has no positive rate, {cls.EXAMPLE} is expected")
        return cls(text, kind, period)

"""What an engine's own Prometheus counters tell of the requests it served, whoever sent them: how many, how many it failed,
and how many took longer than a limit for certain. They never tell which."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?: -?\d+)?$", re.MULTILINE)
BOUND = re.compile(r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\+Inf")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
Sample = tuple[str, dict[str, str], float]


@dataclass(frozen=True)
class Series:
    """A counter, and which of its samples; labels: name -> pattern of the whole value."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def takes(self, labels: Mapping[str, str]) -> bool:
        return all(re.fullmatch(pattern, labels.get(name, "")) for name, pattern in self.labels.items())


@dataclass(frozen=True)
class Counts:
    """requests, failed: all of them, and those that failed by the server's doing, None where it does not count them;
    latency: `ttft` or `e2e` -> a histogram in seconds."""

    requests: Series | None = None
    failed: Series | None = None
    latency: Mapping[str, Series] = field(default_factory=dict)

    def tells(self, kind: str) -> bool:
        """kind: errors, ttft, e2e."""
        return self.failed is not None if kind == "errors" else kind in self.latency

    def served(self, text: str) -> float | None:
        """All requests of a metrics page, since its process began; None where it does not tell."""
        if self.requests is not None and any(samples(text, self.requests.name)):
            return total(text, self.requests)
        found = next(iter(self.latency.values()), None)
        told = _late(text, found, math.inf) if found else None
        return None if told is None else told[0]

    def blind(self, text: str, kind: str, limit: float) -> str | None:
        """Why a metrics page could never show one that took longer than the limit; empty where it could, None while its
        histogram is not there, as before the first request."""
        if kind not in self.latency:
            return ""
        bounds = [bound for bound in _below(text, self.latency[kind]) if bound < math.inf]
        if not bounds:
            return None
        return f"its histogram ends at {max(bounds):g} s" if max(bounds) < limit < math.inf else ""

    def read(self, text: str, kind: str, limit: float) -> tuple[float, float] | None:
        """(requests, bad ones) of a metrics page, since its process began; None where it does not tell, as of an engine that
        was not asked to export it.

        limit: seconds, of a latency. Late is what lies above the smallest bound of the histogram that is not below the
        limit: what may have been in time is never counted as late.
        """
        if kind in self.latency:
            return _late(text, self.latency[kind], limit)
        if self.requests is None or self.failed is None or not any(samples(text, self.requests.name)):
            return None
        return total(text, self.requests), total(text, self.failed)


def samples(text: str, name: str) -> Iterator[Sample]:
    """Those of one name; a counter may lack its `_total` there (OpenMetrics names the family without it)."""
    for found, labels, value in SAMPLE.findall(text):
        if found in (name, f"{name}_total"):
            yield found, dict(LABEL.findall(labels)), float(value)


def total(text: str, series: Series) -> float:
    """0 where it is not told."""
    return sum(value for _, labels, value in samples(text, series.name) if series.takes(labels))


def _below(text: str, series: Series) -> dict[float, float]:
    """Bound -> requests up to it."""
    below: dict[float, float] = {}
    for _, labels, value in samples(text, f"{series.name}_bucket"):
        if series.takes(labels) and BOUND.fullmatch(labels.get("le", "")):
            below[float(labels["le"])] = below.get(float(labels["le"]), 0.0) + value
    return below


def _late(text: str, series: Series, limit: float) -> tuple[float, float] | None:
    below = _below(text, series)
    if math.inf not in below:
        return None
    return below[math.inf], below[math.inf] - below[min(bound for bound in below if bound >= limit)]

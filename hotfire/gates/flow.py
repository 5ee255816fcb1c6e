"""How requests flowed: was the target ever silent while requests waited, and did its queue only grow?

A freeze is a fact, not a percentile, and above capacity no percentile is ever decided; both have a gate of their own.
Pure; times are seconds from t0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hotfire.errors import Unjudged
from hotfire.words import Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


SATURATED = "the number of requests in flight only grew: the load is above what the target carries"
FEW = 80  # requests: fewer show no trend


@dataclass(frozen=True)
class Flow:
    """How many requests were in flight between the first and the last due time of a window.

    busy: the share of that time with at least one (utilisation, where the target takes one at a time; else more than that);
    mean: how many on average; fifths: how many each fifth of the arrivals met, on average; saturated: whether these only
    grew; confirmed: whether they did in each half of the window, too.
    """

    busy: float
    mean: float
    fifths: tuple[float, ...]
    saturated: bool
    confirmed: bool

    def as_record(self) -> dict[str, Any]:
        """The fields as JSON can carry them, figures to 9 digits."""
        figures = {"busy": float(f"{self.busy:.9g}"), "mean": float(f"{self.mean:.9g}")}
        return asdict(self) | figures | {"fifths": [float(f"{value:.9g}") for value in self.fifths]}


def words(flow: Mapping[str, Any]) -> str:
    """A flow in words: how busy the target was, and whether it is above its capacity."""
    line = f"utilisation {flow['busy']:.0%} (a request in flight), {flow['mean']:.3g} in flight on average"
    if flow["saturated"]:
        line += f"; SATURATED{'' if flow['confirmed'] else ', not confirmed by each half'}: {SATURATED}"
    return line


def flow(due: ArrayLike, end: ArrayLike) -> Flow:
    """due ascending, s from t0; end: inf for never answered. Raises Unjudged EMPTY without a request."""
    import numpy as np

    arrivals, gone = np.asarray(due, float), np.asarray(end, float)
    if not len(arrivals):
        raise Unjudged("no request in the window", reason=Reason.EMPTY)
    span, until = max(float(np.ptp(arrivals)), 1e-9), arrivals[-1]
    begin, to = _union(arrivals, np.clip(gone, arrivals, until))
    met = in_flight(arrivals, gone)
    return Flow(
        busy=float((to - begin).sum()) / span,
        mean=float((np.clip(gone, arrivals, until) - arrivals).sum()) / span,
        fifths=tuple(float(part.mean()) if len(part) else 0.0 for part in np.array_split(met, 5)),
        saturated=saturated(met),
        confirmed=confirmed(met),
    )


def in_flight(due: ArrayLike, end: ArrayLike) -> NDArray[np.int64]:
    """How many earlier requests were unanswered when each was due. due ascending; end: inf for never answered."""
    import numpy as np

    arrivals = np.asarray(due, float)
    gone = np.searchsorted(np.sort(np.asarray(end, float)), arrivals, side="right")
    return np.asarray(np.arange(len(arrivals)) - gone, np.int64)


def saturated(in_flight_at_arrival: ArrayLike) -> bool:
    """Whether the queue grew through the whole run: the mean per fifth rises every time and at least doubles.

    Above capacity tau grows with n and no percentile is ever decided, so this needs a flag of its own. It is right in
    90 to 100 % of runs at 1.2 times capacity, wrong in 3 % at 0.9 (facts): `confirmed` before FAIL.
    """
    fifths = _fifths(in_flight_at_arrival)
    return len(fifths) > 0 and _rises(fifths) and bool(fifths[4] > 2 * fifths[0])


def confirmed(in_flight_at_arrival: ArrayLike) -> bool:
    """Saturated, and the queue grew through each half of the run as well: a second window must say what the first did.

    Over five looks, eight worlds of 60 runs: none was called so at 0.7 of capacity and one at 0.9; at 1.2 times it 90 to 100 %
    of a world's runs were, at 1.05 times 22 to 87 % (bench/statistics.py).
    """
    import numpy as np

    halves = np.array_split(np.asarray(in_flight_at_arrival, float), 2)
    parts = [_fifths(half) for half in halves]
    return saturated(in_flight_at_arrival) and all(len(part) > 0 and _rises(part) for part in parts)


def _fifths(in_flight_at_arrival: ArrayLike) -> Floats:
    """The mean of each fifth, the last few requests left out; none of fewer than FEW."""
    import numpy as np

    x = np.asarray(in_flight_at_arrival, float)
    return x[: len(x) // 5 * 5].reshape(5, -1).mean(axis=1) if len(x) >= FEW else x[:0]


def _rises(parts: Floats) -> bool:
    return bool((parts[1:] > parts[:-1]).all())


def longest_stall(begin: ArrayLike, end: ArrayLike, heard: ArrayLike, heard_to: ArrayLike | None = None) -> tuple[float, float]:
    """The longest time with requests in flight and no byte from the target: (seconds, when it began); O(n log n).

    begin, end: each request on the wire (s from t0; give those still open the end of the window). heard: every moment
    at which bytes came, from whichever request, exact. With heard_to the target may have spoken at any time in
    [heard, heard_to], and what is returned is the longest silence that is certain. (0, nan) when nothing was in flight.
    """
    import numpy as np

    busy_from, busy_to = _union(begin, end)
    heard_from, heard_until = _union(heard, heard if heard_to is None else heard_to)
    if not len(busy_from):
        return 0.0, math.nan
    cuts = np.unique(np.concatenate([busy_from, busy_to, heard_from, heard_until]))
    left, middle = cuts[:-1], (cuts[:-1] + cuts[1:]) / 2
    silent = _covered(middle, busy_from, busy_to) & ~_covered(middle, heard_from, heard_until)
    lengths = np.where(silent, np.diff(cuts), 0.0)
    if not silent.any():
        return 0.0, math.nan
    worst = int(lengths.argmax())
    return float(lengths[worst]), float(left[worst])


def _union(begin: ArrayLike, end: ArrayLike) -> tuple[Floats, Floats]:
    """Disjoint ascending intervals that cover the same points; touching ones are joined, points are kept."""
    import numpy as np

    a, b = np.asarray(begin, float), np.asarray(end, float)
    if np.isnan(a).any() or np.isnan(b).any() or (b < a).any():
        raise Unjudged("an interval ends before it begins, or has no time", reason=Reason.NO_DATA)
    order = np.argsort(a, kind="stable")
    a, reach = a[order], np.maximum.accumulate(b[order])
    new = np.concatenate([[True], a[1:] > reach[:-1]]) if len(a) else np.zeros(0, bool)
    return a[new], reach[np.concatenate([new[1:], [True]])] if len(a) else reach


def _covered(points: Floats, begin: Floats, end: Floats) -> NDArray[np.bool_]:
    import numpy as np

    if not len(begin):
        return np.zeros(len(points), bool)
    i = np.searchsorted(begin, points, side="right") - 1
    inside: NDArray[np.bool_] = (i >= 0) & (points < end[np.maximum(i, 0)])
    return inside

"""The burn guard on counters: do the requests that the pods themselves counted fail an objective beyond doubt?

Counters tell how many there were from one reading to the next and how many of them were bad, never which. So the bad ones of
an interval are laid side by side: as clumped as they can be, which makes their dependence large and the rule slow, never
quick. Of that order the rule of `gates.guard` is asked (a slow window that must FAIL, a fast one that must burn at twice the
allowed share), of everything counted so far, once the count has passed a checkpoint. What turns bad late is no share of all
that: it burns where nearly all of the newest requests are bad, of so many that no queue at the limit makes them. Failures are
no queue, EARLY of them are enough; late ones take LONG. At the limit itself none of 320 runs of 10,000 requests was ended at
utilisation 0.7, and 9 of 480 at 0.9 in the four worst worlds (bench/statistics.py). Only to FAIL. Pure.

That nothing burns is no proof yet: `unproven` says where so little was counted that nothing could, and where far more than
allowed were bad and only their dependence leaves a doubt. With a limit of 1.5 times the true one that leaves 0.3 to 2 % of runs
undecided at utilisation 0.7 and 2 to 4 % at 0.9 (100 to 4,000 requests, ten worlds of bench/worlds.py, 150 runs each).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hotfire.gates import guard
from hotfire.gates.laws import binomial
from hotfire.gates.statistics import LEAST_FAIL
from hotfire.record.events import requests_of
from hotfire.words import Reason

LONG = 3_200  # requests
PATIENCE = 300.0  # seconds for which users are waited for who come often enough
SPELL = 3.7  # seconds of bad intervals without which it may all be one hitch, however many met it
END = {"ttft": "first token", "e2e": "end"}

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Burn:
    """One objective. p0: the share of bad requests that it allows; alpha: of FAIL at one look; kind: errors, ttft, e2e."""

    def __init__(self, p0: float, alpha: float, kind: str) -> None:
        self.p0, self.alpha, self.newest = p0, alpha, guard.EARLY if kind == "errors" else LONG
        self.requests = self.bad = 0
        self._intervals: deque[tuple[int, int, float]] = deque()
        self._kept = self._asked = 0

    def add(self, requests: int, bad: int, lasted: float) -> bool:
        """What one interval brought in how many seconds; whether all so far burns. A request may be counted when it begins and
        fail intervals later: then there are more bad ones than requests, and each is taken for one more. Only intervals that
        are bad by themselves make a spell longer: what was good before a hitch tells nothing of how long it lasted."""
        if not (requests := max(requests, bad)):
            return False
        self._intervals.append((requests, bad, lasted if bad >= guard.twice(self.p0) * requests else 0.0))
        self.requests, self.bad, self._kept = self.requests + requests, self.bad + bad, self._kept + requests
        while self._kept - self._intervals[0][0] >= (guard.RECENT if self.requests > guard.MOST else guard.MOST):
            self._kept -= self._intervals.popleft()[0]
        at, asked = guard.checkpoint(self.requests), self._asked
        self._asked = at
        if not bad or sum(one[2] for one in self._intervals) < SPELL:
            return False
        if self._out():
            return True
        flags = laid((n, k) for n, k, _ in self._intervals) if at != asked else None
        return flags is not None and guard.burns(flags, flags, self.p0, self.alpha, thirds=False)

    def _out(self) -> bool:
        """Whether nearly all of the newest requests are bad: as many as its kind needs, and of SPELL."""
        n, bad, long = 0, 0, 0.0
        for requests, k, lasted in reversed(self._intervals):
            n, bad, long = n + requests, bad + k, long + lasted
            if n >= self.newest and long >= SPELL:
                return bad >= guard.nearly_all(self.p0) * n
        return False


def laid(intervals: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """(requests,) flags in order, the bad ones of each (requests, bad) at its end."""
    import numpy as np

    parts = [np.arange(requests) >= requests - bad for requests, bad in intervals]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


class Guard:
    """All parts of a Counted event, interval by interval as it holds them."""

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self.parts = parts
        self._burns = [Burn(float(part["allowed"]), float(part["alpha"]), str(part["kind"])) for part in parts]
        self._until: float | None = None

    def add(self, interval: Sequence[float]) -> str:
        """Which of them burns with this interval, in words; empty while none does."""
        until, counts, *told = interval
        lasted, self._until = until - (until if self._until is None else self._until), until
        for i, (part, burn) in enumerate(zip(self.parts, self._burns, strict=True)):
            if counts and burn.add(int(told[2 * i]), int(told[2 * i + 1]), lasted):
                return words(part, burn.requests, burn.bad)
        return ""


def burnt(parts: Sequence[Mapping[str, Any]], intervals: Iterable[Sequence[float]]) -> tuple[int, str] | None:
    """The first of the intervals at which a part burns, and which in words; None if none ever does."""
    guard_ = Guard(parts)
    return next(((i, said) for i, interval in enumerate(intervals) if (said := guard_.add(interval))), None)


def users_of(intervals: Iterable[Sequence[float]], ours: int) -> int:
    """Requests that others than hotfire have sent, of those that count."""
    return max(requests_of(intervals) - ours, 0)


def unproven(parts: Sequence[Mapping[str, Any]], intervals: Iterable[Sequence[float]], ours: int) -> tuple[Reason, str] | None:
    """Why it speaks for nobody that no part burnt; None when it does. ours: hotfire's own among those that count."""
    intervals = list(intervals)
    told, users = [one for _, counts, *one in intervals if counts], users_of(intervals, ours)
    if users < LEAST_FAIL:
        return (
            Reason.INSUFFICIENT if users else Reason.EMPTY,
            f"{users} requests of users were counted, {LEAST_FAIL} are needed: fewer can fail nothing",
        )
    for i, part in enumerate(parts):
        n, bad = int(sum(max(one[2 * i : 2 * i + 2]) for one in told)), int(sum(one[2 * i + 1] for one in told))
        p0 = float(part["allowed"])
        if bad and bad >= guard.twice(p0) * n and binomial(bad, n, p0)[1] <= float(part["alpha"]):
            said = f"users' requests speak against {part['slo']}: {_how_many(part, n, bad)}; whether one spell did it is open"
            return Reason.UNDECIDED, said
    return None


def words(part: Mapping[str, Any], requests: int, bad: int) -> str:
    """`users' requests burn e2e-p80: 310 of 420 failed, 20 % may be bad`."""
    return f"users' requests burn {part['slo']}: {_how_many(part, requests, bad)}"


def _how_many(part: Mapping[str, Any], requests: int, bad: int) -> str:
    late = f"took longer than {float(part['limit_s']):g} s to their {END.get(str(part['kind']))}"
    how = "failed" if part["kind"] == "errors" else late
    return f"{bad:,} of {requests:,} {how}, {100 * float(part['allowed']):.3g} % may be bad"

"""The burn guard: may a load end before its next look, since an objective fails beyond doubt?

Burn is the share of bad requests over the allowed one (SRE's burn rate). Two windows must both burn. The slow one, all
requests so far or the newest third of them, must FAIL by the rule of rated loads, which allows for their dependence, at a
tenth of a look's error; the fast one, the newest tenth, must burn at twice the allowed share, so that what is over does not
end a load. Fewer than EARLY requests may all lie in one burst near saturation, and nearly all of them must be bad. It is asked
at fixed counts (`checkpoint`), so that looking often costs nothing that was not simulated: at the limit itself 1 of 17,200
runs was ended, and every one whose target died, within 1,200 requests of it (bench/statistics.py). Beyond MOST requests the
newest RECENT stand for all, so that a death late in a soak is seen within 4,200 requests of it, however long it has lasted
(none of 168 runs of 200,000 at the limit, utilisation 0.8 and 0.9, was ended); the judge asks the same of them. A spaced load
needs no windows: its e-value holds at every moment. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotfire.gates.laws import tails
from hotfire.gates.statistics import LEAST_FAIL, correlation, decide, dependence
from hotfire.words import Outcome

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

GROWTH = 1.05  # from one checkpoint to the next
MOST = 50_000  # requests; of more the answer would take longer than a signal may wait, and a death would hide in them
RECENT, STEP = 12_000, 600  # requests: beyond MOST the newest of them are asked, at every so many more
BURN, FAST = 2.0, 20  # times the allowed share; the fewest requests of the fast window
EARLY, NEARLY_ALL = 400, 0.8  # requests; the share of bad ones below that
LATE = 800  # requests without which the newest third tells nothing of its own dependence
SPENT = 0.1  # of the error of FAIL at one look


def twice(p0: float) -> float:
    """The share that burns at BURN times the allowed one; below 1 also where half of the requests or more may be bad."""
    return min(BURN * p0, (1 + p0) / 2)


def nearly_all(p0: float) -> float:
    """The share of bad requests beyond which hardly one of those that must be good is."""
    return max(NEARLY_ALL, 1 - (1 - p0) / 4)


def checkpoint(requests: int) -> int:
    """The last count up to `requests` at which a rated load is asked; 0 before the first."""
    if requests >= MOST + STEP:
        return MOST + (requests - MOST) // STEP * STEP
    at, reached = float(LEAST_FAIL), 0
    while int(at) <= min(requests, MOST):
        at, reached = at * GROWTH, int(at)
    return reached


def burns(bad: ArrayLike, latency: ArrayLike, p0: float, alpha: float, *, thirds: bool = True) -> bool:
    """Whether a rated load fails beyond doubt. bad: (n,) proven flags; latency: (n,) seconds, inf for a failure; in order of
    the due times, none left out; alpha: of FAIL at one look; thirds: whether the newest third may be the slow window."""
    import numpy as np

    flags, seconds = np.asarray(bad, bool), np.asarray(latency, float)
    n = len(flags)
    newest = flags[n - max(n // 10, FAST) :]
    if n < LEAST_FAIL or newest.mean() < twice(p0) or flags.mean() < (nearly_all(p0) if n < EARLY else p0):
        return False
    slow = [0, n - n // 3] if thirds and n // 3 >= LATE else [0]
    return any(_fails(flags[since:], seconds[since:], p0, SPENT * alpha) for since in slow)


def _fails(flags: ArrayLike, seconds: ArrayLike, p0: float, alpha: float) -> bool:
    import numpy as np

    n, k = len(np.asarray(flags)), int(np.asarray(flags).sum())
    if tails(k, n, p0, correlation(n, 1.0))[1] > alpha:  # not even if they were independent
        return False
    return decide(n, k, k, p0, dependence(flags, seconds, p0), (0.0, alpha)) is Outcome.FAIL

"""Is the true share of bad requests at most p0? One question for every gate: p95 <= L is bad = slower than L, p0 = 0.05.

Requests of one run depend on each other, near saturation strongly, and a bound that assumes otherwise passes wrongly 38
to 66 % of the time at utilisation 0.7 to 0.9 (nominal 5 %). So there are two rules (facts: statistics.md):

- rated load (open loop): the upper value of the integrated autocorrelation time `tau` over every level of the run's own
  latencies, and the tail of a beta-binomial with mean p0 whose variance is 1 + KAPPA (tau - 1) times the binomial one;
- spaced load (one request at a time): the exact binomial tail, which is Clopper-Pearson.

Both are asked at fixed looks (LOOKS times the planned requests), each at (1 - confidence) / looks, so that load may be
extended until a gate is decided. GO is an intersection of gates, so PASS needs no correction over them; FAIL does, and
is asked at (1 - confidence) / (looks x required gates). Where windows are asked for, PASS needs each of them, too: they
are there against drift, and the bound stands on all of them joined.

Pure; numpy and scipy.special are imported where they are used.
Arrays are one entry per request in order of the scheduled send time, warm-up already cut; latencies are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hotfire.errors import HarnessError, Unjudged
from hotfire.gates.flow import in_flight, longest_stall, saturated
from hotfire.gates.laws import binomial, bounds, clopper_pearson, first, tails
from hotfire.words import Blame, Outcome, Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "LOOKS", "Feasibility", "Judgement", "alphas", "can_decide", "in_flight", "judge_point", "judge_rated",
    "judge_spaced", "longest_stall", "look_sizes", "needs_requests", "percentile", "saturated", "windowed",
]  # fmt: skip

LOOKS = (1, 1.5, 2, 3, 4)
LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)
# Tuned on simulated worlds, not derived (facts: statistics.md); bench/statistics.py measures what they are worth.
KAPPA = 3.2  # what the upper value of tau still misses; at the facts' 3.5 the worst world is as wrong (4.0 %)
Z, BATCHES = 2.0, 16
NEED_PASS, NEED_FAIL = 80, 20  # taus a run must hold before it may PASS, or FAIL
LEAST_PASS, LEAST_FAIL = 2_000, 100  # requests likewise: fewer cannot show their own dependence


@dataclass(frozen=True)
class Judgement:
    """What one look at one gate came to.

    outcome: None while undecided before the last look, so that the load is extended. share = bad / n; upper and lower
    are one-sided bounds on the true share at alpha; effective: how many independent requests these are worth; needs:
    requests after which the same share would decide, None when no number up to a million would; observed: the
    percentile (seconds, may be inf) or ratio the run showed; detail: one line for people.
    """

    outcome: Outcome | None
    reason: Reason | None
    n: int
    bad: int
    share: float
    limit: float
    alpha: float
    look: int
    lower: float
    upper: float
    tau: float
    effective: float
    needs: int | None
    observed: float
    detail: str

    def as_record(self) -> dict[str, Any]:
        """The fields as JSON can carry them: infinities as the text `inf`, figures to 9 digits."""
        out: dict[str, Any] = {}
        for name, value in asdict(self).items():
            finite = not isinstance(value, float) or math.isfinite(value)
            out[name] = (float(f"{value:.9g}") if isinstance(value, float) else value) if finite else str(value)
        return out


def alphas(confidence: float, required_gates: int = 1) -> tuple[float, float]:
    """The error probability spent at one look: (for PASS, for FAIL). confidence in (0, 1), one-sided."""
    if not 0 < confidence < 1 or required_gates < 1:
        raise HarnessError(f"confidence {confidence} and {required_gates} required gates: no error budget to split")
    alpha = round((1 - confidence) / len(LOOKS), 12)
    return alpha, alpha / required_gates


def look_sizes(requests: int) -> tuple[int, ...]:
    """Requests in the window at each look, of `requests` planned to the first."""
    return tuple(math.ceil(requests * factor) for factor in LOOKS)


def percentile(values: ArrayLike, q: float) -> float:
    """The nearest-rank q-quantile: the smallest value that at least the share q does not exceed. inf is a value.

    Raises Unjudged: EMPTY without values, NO_DATA when one is NaN.
    """
    import numpy as np

    x = _known(values)
    rank = min(max(math.ceil(q * len(x) - 1e-9), 1), len(x))
    return float(np.partition(x, rank - 1)[rank - 1])


def autocorrelation_time(rows: ArrayLike) -> Floats:
    """The upper value of the integrated autocorrelation time of each row (R, n), in requests: shape (R,), at least 1.

    Geyer's initial positive pairs, corrected for the removed mean, plus Z standard errors, and never below what
    overlapping batch means show (they see slow drift, which pairs cut short). A constant row tells nothing: 1.
    """
    import numpy as np

    x = np.array(rows, float, ndmin=2)
    n = x.shape[1]
    mean = x.mean(axis=1, keepdims=True)
    x -= mean
    variance = np.einsum("ij,ij->i", x, x) / n
    flat = variance <= 1e-15 * (1 + mean[:, 0] ** 2)  # a constant, but for rounding
    scale = np.where(flat, 1.0, variance)
    lags = max(n // 3, 2)
    size = 1 << (n + lags).bit_length()  # zero-padded, so that no lag up to n / 3 wraps round
    f = np.fft.rfft(x, size)
    r = np.fft.irfft(f.real**2 + f.imag**2, size)[:, 1 : lags + 1] / n / scale[:, None]
    pairs = r[:, 0 : lags // 2 * 2 : 2] + r[:, 1 : lags // 2 * 2 : 2]
    below = pairs < 0
    kept = np.where(below.any(axis=1), below.argmax(axis=1), pairs.shape[1])
    sums = np.where(np.arange(pairs.shape[1]) < kept[:, None], pairs, 0.0).sum(axis=1)
    window = np.minimum((4 * kept + 1) / n, 0.45)
    upper = np.maximum(1.0, 1 + 2 * sums) / (1 - window) * (1 + Z * np.sqrt(2 * window))
    batch = max(n // BATCHES, 1)
    c = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, axis=1)], axis=1)
    d = c[:, batch:] - c[:, :-batch]
    means = n / batch * np.einsum("ij,ij->i", d, d) / ((n - batch + 1.0) * (n - batch)) / scale
    return np.where(flat, 1.0, np.maximum(upper, means))


def dependence(bad: ArrayLike, latency: ArrayLike, p0: float) -> float:
    """tau of a run: the largest over the bad flags, the latency ranks and the run's own levels down to share p0.

    Few bad requests show neither their number nor their clumps; the levels below show the clumps they would come in.
    """
    import numpy as np

    order = midranks(latency)
    n = len(order)
    levels = (order > q * n for q in LEVELS if 1 - q >= p0 - 1e-9)
    return max(float(autocorrelation_time(row)[0]) for row in (np.asarray(bad, float), order, *levels))


def midranks(values: ArrayLike) -> Floats:
    """Ranks 1..n, ties sharing their mean rank."""
    import numpy as np

    _, place, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks


def correlation(n: int, tau: float) -> float:
    """The intra-class correlation that makes the beta-binomial's variance 1 + KAPPA (tau - 1) times the binomial's."""
    return min(max(KAPPA * (tau - 1) / max(n - 1, 1), 1e-7), 0.999)


def decide(n: int, bad: int, proven: int, p0: float, tau: float, alpha: tuple[float, float]) -> Outcome | None:
    """PASS, FAIL or None (not shown) for a rated load. proven: the bad without those only cut off; FAIL rests on it."""
    icc = correlation(n, tau)
    if n >= max(NEED_FAIL * tau, LEAST_FAIL) and tails(proven, n, p0, icc)[1] <= alpha[1]:
        return Outcome.FAIL
    if n >= max(NEED_PASS * tau, LEAST_PASS) and tails(bad, n, p0, icc)[0] <= alpha[0]:
        return Outcome.PASS
    return None


def failing_third(bad: ArrayLike, latency: ArrayLike, p0: float, alpha: float) -> int | None:
    """Which third of the window (0..2) FAILs by itself, each asked at a quarter of alpha; None if none does.

    A candidate that turns bad late inflates tau of the whole window, which then never FAILs: of runs whose last third
    was 2 to 3 times slower the whole found none, a third most of them (bench: wrong FAILs stay under 2 %).
    """
    import numpy as np

    flags, seconds = np.asarray(bad, bool), np.asarray(latency, float)
    for i, part in enumerate(np.array_split(np.arange(len(flags)), 3)):
        n, k = len(part), int(flags[part].sum())
        if n >= LEAST_FAIL and k > p0 * n:
            tau = dependence(flags[part], seconds[part], p0)
            if decide(n, k, k, p0, tau, (0.0, alpha / 4)) is Outcome.FAIL:
                return i
    return None


def windowed(bad: ArrayLike, windows: int) -> tuple[tuple[int, int], ...]:
    """(requests, bad ones) of so many equal windows, one after the other."""
    import numpy as np

    return tuple((len(part), int(part.sum())) for part in np.array_split(np.asarray(bad, bool), windows))


def drifting(windows: Sequence[tuple[int, int]], p0: float) -> str:
    """The first window that shows more bad requests than allowed, in words; empty when none does.

    A window is held to its own share, not to a bound: windows are no estimate of variance (facts: statistics), and a third
    of the requests could hardly ever prove what all of them just did. So it can only take a PASS away.
    """
    found = ((i, n, k) for i, (n, k) in enumerate(windows, 1) if k > p0 * n + 1e-9)
    return next((f"window {i} of {len(windows)} alone has {k} of {n} bad" for i, n, k in found), "")


def judge_rated(
    bad: ArrayLike,
    latency: ArrayLike,
    p0: float,
    *,
    confidence: float = 0.95,
    look: int = 1,
    last_look: bool,
    required_gates: int = 1,
    windows: int = 1,
    unproven: ArrayLike = False,
    observed: float | None = None,
) -> Judgement:
    """One look at an open-loop run. bad: (n,) flags; latency: (n,) seconds, inf for a failure; both in arrival order.

    unproven: (n,) flags of those `bad` only because the window ended first; they count against PASS, not for FAIL.
    windows: how many equal ones must each be within p0 for PASS.
    FAIL is looked for on the whole window and on each third of it.
    Raises Unjudged: EMPTY without requests, NO_DATA when a latency is NaN.
    """
    import numpy as np

    seconds, flags = _known(latency), np.asarray(bad, bool)
    known = flags & ~np.asarray(unproven, bool)
    n, k, proven = len(seconds), int(flags.sum()), int(known.sum())
    _sane(n, k, p0, len(flags), k - proven)
    alpha = alphas(confidence, required_gates)
    tau = dependence(flags, seconds, p0) if n >= LEAST_FAIL else float(n)
    icc = correlation(n, tau)
    outcome = decide(n, k, proven, p0, tau, alpha)
    third = None if outcome is Outcome.FAIL else failing_third(known, seconds, p0, alpha[1])
    if third is not None:
        part = np.array_split(known, 3)[third]
        where = f"; in the {('first', 'second', 'last')[third]} third {int(part.sum())} of {len(part)} were"
    return _judgement(
        outcome if third is None else Outcome.FAIL,
        where="" if third is None else where,
        short=n < max(NEED_PASS * tau, LEAST_PASS),
        counts=(n, k),
        p0=p0,
        confidence=confidence,
        alpha=alpha,
        look=(look, last_look),
        bounds_=bounds(k, proven, alpha, lambda x, p: tails(x, n, p, icc)) if n > 1 else (0.0, 1.0),
        tau=tau,
        effective=n / (1 + (n - 1) * icc),
        needs=lambda: _needs_rated(n, k / n, p0, tau, alpha),
        observed=percentile(seconds, 1 - p0) if observed is None else observed,
        drift=drifting(windowed(flags, windows), p0),
    )


def judge_spaced(
    n: int,
    bad: int,
    p0: float,
    *,
    confidence: float = 0.95,
    look: int = 1,
    last_look: bool,
    required_gates: int = 1,
    windows: Sequence[tuple[int, int]] = (),
    unproven: int = 0,
    observed: float | None = None,
) -> Judgement:
    """One look at a spaced load, where no request waits for another: the exact binomial tail (Clopper-Pearson).

    At 95 % and five looks, with nothing over the limit, p80 passes at 21 requests, p90 at 44, p95 at 90. windows: as
    `windowed` counts them. FAIL is not looked for in thirds: at the limit itself wrong ones would rise from 2.5 to 3 %.
    Raises Unjudged EMPTY without requests.
    """
    _sane(n, bad, p0, n, unproven)
    alpha = alphas(confidence, required_gates)
    least = least_spaced(p0, alpha[0])
    low, high = binomial(bad, n, p0)[0], binomial(bad - unproven, n, p0)[1]
    outcome = Outcome.FAIL if high <= alpha[1] else Outcome.PASS if low <= alpha[0] else None
    return _judgement(
        outcome,
        short=least is None or n < least,
        counts=(n, bad),
        p0=p0,
        confidence=confidence,
        alpha=alpha,
        look=(look, last_look),
        bounds_=(clopper_pearson(bad - unproven, n, alpha[1])[0], clopper_pearson(bad, n, alpha[0])[1]),
        tau=1.0,
        effective=float(n),
        needs=lambda: least_spaced(p0, alpha[0], bad),
        observed=bad / n if observed is None else observed,
        drift=drifting(windows, p0),
    )


def judge_point(n: int, bad: int, p0: float, *, look: int = 1, last_look: bool = True, observed: float) -> Judgement:
    """`confidence: none`: the run's own share against p0, printed as a point estimate. It needs 1 / p0 requests."""
    _sane(n, bad, p0, n, 0)
    least = math.ceil(1 / p0 - 1e-9)
    outcome: Outcome | None
    outcome, reason = (Outcome.PASS, None) if bad / n <= p0 else (Outcome.FAIL, Reason.BREACH)
    if n < least:
        outcome, reason = (Outcome.INVALID, Reason.INSUFFICIENT) if last_look else (None, None)
    line = f"{bad} of {n} requests bad ({_pct(bad / n)}, allowed {_pct(p0)}): a point estimate, nothing is shown by it"
    needs = least if n < least else None
    return Judgement(outcome, reason, n, bad, bad / n, p0, math.nan, look, 0.0, 1.0, 1.0, float(n), needs, observed, line)


def least_spaced(p0: float, alpha: float, bad: int = 0) -> int | None:
    """The fewest spaced requests that PASS with `bad` of them bad; None when no number up to a million does."""
    return first(bad + 1, lambda n: binomial(bad, n, p0)[0] <= alpha)


@dataclass(frozen=True)
class Feasibility:
    """What a gate can come to under a plan. pass_at, fail_at: the fewest requests with which any input could PASS or
    FAIL, None for never; requests: in the window at the first and the last look; minutes: what those last."""

    pass_at: int | None
    fail_at: int | None
    requests: tuple[int, int]
    minutes: tuple[float, float]

    @property
    def can_pass(self) -> bool:
        return self.pass_at is not None and self.pass_at <= self.requests[1]

    @property
    def can_fail(self) -> bool:
        return self.fail_at is not None and self.fail_at <= self.requests[1]


def can_decide(
    p0: float,
    arrivals: str,
    requests: int,
    rate: float,
    *,
    confidence: float = 0.95,
    required_gates: int = 1,
    windows: int = 1,
) -> Feasibility:
    """For lint and plan. arrivals: `spaced` or a rated kind; requests: planned to the first look; rate: per second.
    windows: so many, each of which must hold the 1 / p0 requests without which a single bad one is over the share.

    A gate that no input can make PASS or FAIL (facts: F3) must be refused before anything runs.
    """
    sizes = look_sizes(requests)
    span = (sizes[0] / (60 * rate), sizes[-1] / (60 * rate))
    alpha = alphas(confidence, required_gates)
    if not 0 < p0 < 1:
        return Feasibility(None, None, (sizes[0], sizes[-1]), span)
    spaced = arrivals == "spaced"
    fails = first(1 if spaced else LEAST_FAIL, lambda n: p0**n <= alpha[1])
    passes = least_spaced(p0, alpha[0])
    if not spaced and passes is not None:
        passes = first(LEAST_PASS, lambda n: tails(0, n, p0, correlation(n, 1.0))[0] <= alpha[0])
    if passes is not None and windows > 1:
        passes = max(passes, windows * math.ceil(1 / p0 - 1e-9))
    return Feasibility(passes, fails, (sizes[0], sizes[-1]), span)


# Requests for 80 % PASS in one look, by (p0, utilisation, headroom): the easy worlds (M/M/4, batching engine end to end)
# and the hard ones (two unequal pods, service times of cv 2); None: over 50,000. Facts: statistics.md, guidance table.
GUIDE: dict[tuple[float, float, float], tuple[int | None, int | None]] = {
    (0.05, 0.5, 1.25): (2_000, 20_000), (0.05, 0.5, 1.5): (2_000, 10_000), (0.05, 0.5, 2.0): (2_000, 5_000),
    (0.05, 0.7, 1.25): (10_000, None), (0.05, 0.7, 1.5): (5_000, 50_000), (0.05, 0.7, 2.0): (5_000, 20_000),
    (0.05, 0.8, 1.25): (50_000, None), (0.05, 0.8, 1.5): (20_000, None), (0.05, 0.8, 2.0): (10_000, 50_000),
    (0.01, 0.5, 1.25): (5_000, 50_000), (0.01, 0.5, 1.5): (5_000, 20_000), (0.01, 0.5, 2.0): (2_000, 10_000),
    (0.01, 0.7, 1.25): (50_000, None), (0.01, 0.7, 1.5): (10_000, None), (0.01, 0.7, 2.0): (10_000, 50_000),
    (0.01, 0.8, 1.25): (None, None), (0.01, 0.8, 1.5): (50_000, None), (0.01, 0.8, 2.0): (20_000, None),
}  # fmt: skip


def needs_requests(
    p0: float, arrivals: str, *, confidence: float = 0.95, headroom: float = 1.5, utilisation: float = 0.7
) -> tuple[int | None, int | None]:
    """How many requests to plan in all: (easy, hard) candidates, None for more than is worth asking.

    Spaced: exact, with none and with two bad. Rated: the guidance table, read at the next higher utilisation and the
    next lower headroom (limit over the true percentile), p0 below 5 % as p99, never below what could PASS at all.
    """
    alpha = alphas(confidence)[0]
    if arrivals == "spaced":
        return least_spaced(p0, alpha), least_spaced(p0, alpha, 2)
    at_all = can_decide(p0, arrivals, 1, 1.0, confidence=confidence).pass_at
    use = next((u for u in (0.5, 0.7, 0.8) if utilisation <= u), None)
    room = next((h for h in (2.0, 1.5, 1.25) if headroom >= h), None)
    easy, hard = GUIDE[0.05 if p0 >= 0.05 else 0.01, use, room] if use and room else (None, None)
    return (max(easy, at_all) if easy and at_all else None), (max(hard, at_all) if hard and at_all else None)


def _known(values: ArrayLike) -> Floats:
    import numpy as np

    x = np.asarray(values, float)
    if not x.size:
        raise Unjudged("no request to judge", reason=Reason.EMPTY)
    if np.isnan(x).any():
        raise Unjudged(f"{int(np.isnan(x).sum())} of {x.size} figures are NaN", reason=Reason.NO_DATA)
    return x


def _sane(n: int, bad: int, p0: float, flags: int, unproven: int) -> None:
    if n == 0:
        raise Unjudged("no request to judge", reason=Reason.EMPTY, blame=Blame.HARNESS)
    if not 0 < p0 < 1 or flags != n or not 0 <= unproven <= bad <= n:
        raise HarnessError(f"p0 {p0}, {n} latencies, {flags} flags, {bad} bad, {unproven} unproven do not go together")


def _needs_rated(n: int, share: float, p0: float, tau: float, alpha: tuple[float, float]) -> int | None:
    """Requests after which this share and this tau would decide. A lower bound: a short run underestimates tau."""
    start = max(math.ceil(NEED_PASS * tau), LEAST_PASS)
    if share < p0:
        return first(start, lambda m: tails(math.floor(share * m), m, p0, correlation(m, tau))[0] <= alpha[0])
    short = start if n < start else None  # too few to say even that
    start = max(math.ceil(NEED_FAIL * tau), LEAST_FAIL, n)
    return short or first(start, lambda m: tails(math.ceil(share * m), m, p0, correlation(m, tau))[1] <= alpha[1])


def _judgement(
    outcome: Outcome | None,
    *,
    short: bool,
    counts: tuple[int, int],
    p0: float,
    confidence: float,
    alpha: tuple[float, float],
    look: tuple[int, bool],
    bounds_: tuple[float, float],
    tau: float,
    effective: float,
    needs: Callable[[], int | None],
    observed: float,
    drift: str,
    where: str = "",
) -> Judgement:
    n, bad = counts
    lower, upper = bounds_
    drift = drift if outcome is Outcome.PASS else ""
    reason = Reason.BREACH if outcome is Outcome.FAIL else None
    if outcome is None or drift:
        reason = Reason.INSUFFICIENT if short else Reason.UNDECIDED
        outcome = Outcome.INVALID if look[1] else None
    wanted = needs() if reason in (Reason.INSUFFICIENT, Reason.UNDECIDED) and not drift else None
    line = (
        f"{bad} of {n} requests bad ({_pct(bad / n)}; the true share is {_pct(lower)} to {_pct(upper)}, "
        f"allowed {_pct(p0)}) at {_pct(confidence)}, look {look[0]} of {len(LOOKS)}{where}"
    )
    if tau > 1:
        line += f"; they depend on each other over {tau:.3g} requests and are worth {effective:.0f} independent ones"
    if drift:
        line += f"; {Reason.UNDECIDED.value}: all together pass, {drift}"
    elif reason in (Reason.INSUFFICIENT, Reason.UNDECIDED):
        line += f"; {reason.value}: " + (f"needs about {wanted}" if wanted else "no number of requests up to a million")
    spent = alpha[1] if outcome is Outcome.FAIL else alpha[0]
    return Judgement(outcome, reason, n, bad, bad / n, p0, spent, look[0], lower, upper, tau, effective, wanted, observed, line)


def _pct(share: float) -> str:
    return f"{100 * share:.3g} %"

"""The probability laws behind the gates: binomial, beta-binomial, and their bounds. Pure; scipy.special, no scipy.stats."""

import math
from collections.abc import Callable


def tails(bad: int, n: int, p: float, icc: float) -> tuple[float, float]:
    """(P(X <= bad), P(X >= bad)) for X beta-binomial: n trials, mean share p, intra-class correlation icc.

    The probabilities from 0 to bad (or from n down to bad, whichever is shorter) are summed from their ratios in logs;
    exact to 1e-6 for n up to a million and icc from 1e-7 to 0.999.
    """
    import numpy as np
    from scipy.special import gammaln  # type: ignore[import-untyped]

    a, b = p * (1 / icc - 1), (1 - p) * (1 / icc - 1)
    mirrored = bad > n - bad
    if mirrored:
        a, b, bad = b, a, n - bad
    zero = float((gammaln(n + b) - gammaln(b)) - (gammaln(n + a + b) - gammaln(a + b)))
    j = np.arange(bad, dtype=float)
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - j) / (j + 1) * (j + a) / (n - j - 1 + b)))]) + zero
    mass = np.exp(logs)
    low, high = min(float(mass.sum()), 1.0), min(max(1 - float(mass[:-1].sum()), 0.0), 1.0)
    return (high, low) if mirrored else (low, high)


def binomial(bad: int, n: int, p: float) -> tuple[float, float]:
    """(P(X <= bad), P(X >= bad)) for X binomial, through the incomplete beta function."""
    from scipy.special import betainc

    low = 1.0 if bad >= n else float(betainc(n - bad, bad + 1, 1 - p))
    return low, 1.0 if bad <= 0 else float(betainc(bad, n - bad + 1, p))


def clopper_pearson(bad: int, n: int, alpha: float) -> tuple[float, float]:
    """The exact one-sided bounds (lower, upper) on a share, each wrong with probability alpha at most."""
    from scipy.special import betaincinv

    lower = 0.0 if bad == 0 else float(betaincinv(bad, n - bad + 1, alpha))
    return lower, 1.0 if bad >= n else float(betaincinv(bad + 1, n - bad, 1 - alpha))


def bounds(
    bad: int, proven: int, alpha: tuple[float, float], law: Callable[[int, float], tuple[float, float]]
) -> tuple[float, float]:
    """(lower, upper): the shares at which this many bad requests become as unlikely as alpha."""

    def root(above: Callable[[float], bool]) -> float:
        low, high = 0.0, 1.0
        while high - low > 1e-6 * high + 1e-12:
            middle = (low + high) / 2
            low, high = (low, middle) if above(middle) else (middle, high)
        return (low + high) / 2

    lower = 0.0 if proven == 0 else root(lambda p: law(proven, p)[1] > alpha[1])
    return lower, root(lambda p: law(bad, p)[0] <= alpha[0])


def first(start: int, holds: Callable[[int], bool], most: int = 1_000_000) -> int | None:
    """The smallest n >= start with holds(n), which is monotone in n; None above most."""
    high = start = max(start, 1)
    while not holds(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = start if high == start else max(high // 2, start)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def e_value(n: int, bad: int, p0: float) -> float:
    """Evidence that the true share of bad requests is over p0, after n independent ones; valid at every n at once.

    The likelihood of what was seen, mixed evenly over all shares above p0, over its likelihood at p0. While the share is at
    most p0 it is a supermartingale, so it ever reaches 1/alpha with probability alpha at most (Ville's inequality): a load
    may be watched request by request and ended on it. inf where it cannot be told from infinity.
    """
    from scipy.special import betainc, betaln

    a, b = bad + 1.0, n - bad + 1.0
    above = float(betainc(b, a, 1 - p0))  # of Beta(a, b), the mass over p0
    if above <= 0.0:
        return 0.0
    log = betaln(a, b) + math.log(above) - math.log(1 - p0) - bad * math.log(p0) - (n - bad) * math.log(1 - p0)
    return math.exp(log) if log < 700 else math.inf

"""The probability laws against independent exact sums, and against scipy.stats (in tests only)."""

import math
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy.stats import beta, betabinom

from hotfire.gates import laws


def exact_tails(k, n, a, b):
    """Beta-binomial tails in rational arithmetic: C(n, j) a^(j) b^(n-j) / (a+b)^(n), rising factorials."""

    def rising(x, m):
        out = Fraction(1)
        for i in range(m):
            out *= x + i
        return out

    mass = [comb(n, j) * rising(a, j) * rising(b, n - j) / rising(a + b, n) for j in range(n + 1)]
    return float(sum(mass[: k + 1])), float(sum(mass[k:]))


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 1), (7, 2), (40, 3), (40, 39), (120, 6)])
@pytest.mark.parametrize(("p", "icc"), [("1/20", "1/10"), ("1/100", "1/1000000"), ("1/2", "999/1000"), ("4/5", "1/50")])
def test_the_beta_binomial_equals_rational_arithmetic(n, k, p, icc):
    share, rho = Fraction(p), Fraction(icc)
    a, b = share * (1 / rho - 1), (1 - share) * (1 / rho - 1)
    assert laws.tails(k, n, float(share), float(rho)) == pytest.approx(exact_tails(k, n, a, b), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("icc", [1e-7, 1e-5, 1e-3, 0.1, 0.9, 0.999])
@pytest.mark.parametrize(("n", "k"), [(2_400, 90), (2_400, 0), (20_000, 1_100), (20_000, 19_000)])
def test_the_beta_binomial_equals_scipy_stats(n, k, icc):
    law = betabinom(n, 0.05 * (1 / icc - 1), 0.95 * (1 / icc - 1))
    assert laws.tails(k, n, 0.05, icc) == pytest.approx((law.cdf(k), law.sf(k - 1)), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("k", "icc"), [(49_000, 1e-7), (49_000, 1e-5), (200, 0.999), (45_000, 0.01), (950_000, 1e-4)])
def test_the_beta_binomial_holds_at_a_million_requests(k, icc):
    n, j = 1_000_000, np.arange(1_000_000.0)
    a, b = 0.05 * (1 / icc - 1), 0.95 * (1 / icc - 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - j) / (j + 1) * (j + a) / (n - j - 1 + b)))])
    mass = np.exp(logs - logs.max())
    want = mass[: k + 1].sum() / mass.sum(), mass[k:].sum() / mass.sum()
    assert laws.tails(k, n, 0.05, icc) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 1), (21, 0), (90, 0), (90, 7), (90, 90), (1_000_000, 49_000)])
def test_clopper_pearson_equals_the_beta_quantiles(n, k):
    lower = beta.ppf(0.01, k, n - k + 1) if k else 0.0
    upper = beta.ppf(0.99, k + 1, n - k) if k < n else 1.0
    assert laws.clopper_pearson(k, n, 0.01) == pytest.approx((lower, upper), rel=1e-9)


@pytest.mark.parametrize(("n", "k", "p"), [(21, 0, 0.2), (44, 3, 0.1), (90, 90, 0.05), (5, 0, 0.5)])
def test_the_binomial_tails_equal_exact_sums(n, k, p):
    mass = [comb(n, j) * Fraction(p) ** j * (1 - Fraction(p)) ** (n - j) for j in range(n + 1)]
    assert laws.binomial(k, n, p) == pytest.approx((float(sum(mass[: k + 1])), float(sum(mass[k:]))), rel=1e-12)


def test_the_bounds_are_where_the_tails_meet_alpha():
    law = lambda x, p: laws.tails(x, 5_000, p, 0.002)  # noqa: E731
    lower, upper = laws.bounds(200, 200, (0.01, 0.005), law)
    assert law(200, upper)[0] == pytest.approx(0.01, rel=1e-3)
    assert law(200, lower)[1] == pytest.approx(0.005, rel=1e-3)


def test_the_first_number_that_holds_is_found_exactly_or_never():
    assert [laws.first(1, lambda n, m=m: n >= m) for m in (1, 2, 3, 777, 1_000_000)] == [1, 2, 3, 777, 1_000_000]
    assert laws.first(5, lambda n: True) == 5
    assert laws.first(1, lambda n: False) is None


def test_evidence_that_is_watched_all_the_time_rarely_condemns_a_sound_share() -> None:
    """Ville: of runs whose share is exactly the limit, at most alpha ever reach 1/alpha, however often one looks."""
    rng = np.random.default_rng(3)
    runs = 2000
    crossed = 0
    for flags in rng.random((runs, 100)) < 0.2:
        counts = np.cumsum(flags)
        crossed += any(laws.e_value(n, int(counts[n - 1]), 0.2) >= 100 for n in range(1, 101))
    assert crossed / runs <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / runs)


@pytest.mark.parametrize(("bad", "n", "condemned"), [(5, 5, True), (3, 3, False), (4, 20, False), (12, 20, True)])
def test_evidence_grows_with_bad_requests_alone(bad: int, n: int, condemned: bool) -> None:
    assert (laws.e_value(n, bad, 0.2) >= 200) is condemned

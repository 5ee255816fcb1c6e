"""The client calls itself the bottleneck when it was late, and only then."""

import random

import pytest

from hotfire.gates.statistics import percentile
from hotfire.load.run import Progress
from hotfire.load.selfcheck import LEAST_BOUND, ClientCheck, Histogram


def watched(scale_s: float, lags_ms: list[float]) -> ClientCheck:
    check = ClientCheck(scale_s, None, True)
    for lag in lags_ms:
        check.dispatch.add(1000 * lag)
    return check


def test_its_percentiles_are_within_a_bin_of_the_exact_ones() -> None:
    rng, histogram = random.Random(2), Histogram()
    values = [rng.lognormvariate(6, 2) for _ in range(5000)]
    for value in values:
        histogram.add(value)
    for q in (0.5, 0.9, 0.99):
        assert percentile(values, q) <= histogram.percentile(q) <= 1.2 * percentile(values, q)
    assert histogram.most == max(values)


def test_a_late_client_is_unsound_and_says_why() -> None:
    verdict = watched(0.35, [1.0] * 90 + [40.0] * 10).verdict()
    assert not verdict["sound"] and "40.0 ms late" in verdict["cause"] and verdict["remedy"]


def test_the_bound_follows_the_tightest_objective() -> None:
    assert watched(2.0, [1.0] * 90 + [40.0] * 10).verdict()["sound"]
    assert watched(0.001, []).bound_us == pytest.approx(1e6 * LEAST_BOUND)


def test_one_hiccup_among_few_requests_is_forgiven_and_two_are_not() -> None:
    assert watched(0.35, [1.0] * 20 + [300.0]).verdict()["sound"]
    assert not watched(0.35, [1.0] * 20 + [300.0, 300.0]).verdict()["sound"]


def test_a_client_that_sent_nothing_is_sound() -> None:
    assert ClientCheck(1.0, None, False).verdict()["sound"]


def test_the_live_line_says_rate_first_token_errors_and_what_is_left() -> None:
    line = str(
        Progress(t=30, sent=312, done=300, planned=1200, failed=2, backlog=0, in_flight=12, tokens=900, ttft_p50_ms=18.4)
    )
    assert line == "load: 300 of 1,200 requests done, 30 s, 10.0/s, first token p50 18 ms, 2 failed, about 90 s to go"
    none = Progress(t=5, sent=1, done=0, planned=22, failed=0, backlog=0, in_flight=1, tokens=0, ttft_p50_ms=None)
    assert str(none) == "load: 0 of 22 requests done, 5 s, 0.0/s, 0 failed"

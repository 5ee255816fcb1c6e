"""The client calls itself the bottleneck when it was late, and only then."""

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from hotfire.gates.statistics import percentile
from hotfire.load import selfcheck
from hotfire.load.run import Progress
from hotfire.load.selfcheck import LEAST_BOUND, ClientCheck, Histogram

Watched = Callable[[pytest.MonkeyPatch], ClientCheck]


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CPU time of the test itself counts: a verdict is asked for within a tick of its clock."""
    monkeypatch.setattr(selfcheck, "_own_cpu", lambda: 0.0)


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


def worked(own: float, steal: int = 0) -> Watched:
    """A check of 10 s whose process used that share of its CPU, of which the host took that many of 100 ticks."""

    def make(monkeypatch: pytest.MonkeyPatch) -> ClientCheck:
        clock = iter([0.0, 0.0, 10.0])
        monkeypatch.setattr(selfcheck, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        uses = iter([1.0, 1.0, 1.0 + 10 * own])
        monkeypatch.setattr(selfcheck, "_own_cpu", lambda: next(uses))
        stats = iter([[5] * 8, [5] * 8, [5, 5, 5, 105 - steal, 5, 5, 5, 5 + steal]])
        monkeypatch.setattr(selfcheck, "_host_times", lambda cpu: next(stats))
        check = ClientCheck(0.35, 0, True)
        check.restart()
        return check

    return make


def behind(ms: int, spell_ms: int = 0, excused_s: float = 0.0) -> Watched:
    """A check of 10 s whose last ms went by behind with reading, in one spell or in many; a turn takes 1 ms."""

    def make(monkeypatch: pytest.MonkeyPatch) -> ClientCheck:
        check = worked(0.5)(monkeypatch)
        for now in range(10_000 - ms, 10_000):
            since = now // spell_ms * spell_ms if spell_ms else 10_000 - ms
            check.reads(1_000 * since, 1_000 * (now + 1), round(1e6 * excused_s))
        return check

    return make


def lagged(name: str, lag_ms: float, kernel_stamps: bool = True) -> Watched:
    """A check with 100 lags of one kind; the bound is 17.5 ms."""

    def make(monkeypatch: pytest.MonkeyPatch) -> ClientCheck:
        check = ClientCheck(0.35, None, kernel_stamps)
        for _ in range(100):
            getattr(check, name).add(1000 * lag_ms)
        return check

    return make


@pytest.mark.parametrize(
    ("under", "over", "cause", "remedy"),
    [
        (lagged("dispatch", 17.4), lagged("dispatch", 17.6), "requests were sent 17.6 ms late (p99), 17.5 ms is", ""),
        (lagged("loop", 17.4), lagged("loop", 17.6), "its loop was 17.6 ms late (p99), 17.5 ms is the bound", ""),
        (lagged("reading", 17.4), lagged("reading", 17.6), "bytes waited 17.6 ms in the kernel (p99), 17.5 ms is", ""),
        (lagged("reading", 17.6, False), lagged("reading", 17.6), "bytes waited 17.6 ms in the kernel", ""),
        (behind(317), behind(320), "it was 17.5 ms and more behind with reading for 3.0% of the load, 3% is the bound", ""),
        (behind(5_000, excused_s=9.7), behind(5_000, excused_s=9.6), "it was 17.5 ms and more behind with reading for 4", ""),
        (behind(10_000, spell_ms=18), behind(10_000, spell_ms=20), "it was 17.5 ms and more behind with reading for 12", ""),
        (worked(0.95), worked(0.96), "it used 96% of its CPU, 95% is the bound", "lower the rate"),
        (worked(0.5, 25), worked(0.5, 26), "the host stole 26% of its CPU, 25% is the bound", "another machine"),
    ],
    ids=["dispatch", "loop", "reading", "reading without stamps", "behind", "after a freeze", "spells", "cpu", "steal"],
)
def test_each_bound_holds_on_its_own(
    monkeypatch: pytest.MonkeyPatch, under: Watched, over: Watched, cause: str, remedy: str
) -> None:
    assert under(monkeypatch).verdict()["sound"]
    verdict = over(monkeypatch).verdict()
    assert not verdict["sound"] and verdict["cause"].startswith(cause) and ";" not in verdict["cause"]
    assert remedy in verdict["remedy"]


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

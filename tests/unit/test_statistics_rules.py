"""The rules: golden figures, properties, and what must never pass."""

import ast
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hotfire.gates.statistics as rules
from hotfire.errors import HarnessError, Unjudged
from hotfire.words import Outcome, Reason

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _the_same_draws_whatever_ran_before():
    global RNG
    RNG = np.random.default_rng(20_260_101)


def rated(latency, limit, p0=0.05, **more):
    latency = np.asarray(latency, float)
    return rules.judge_rated(latency > limit, latency, p0, **{"last_look": True, **more})


def slow_tau(x):
    """The autocorrelation time of statistics.md, by plain sums over lags instead of a Fourier transform."""
    n, x = len(x), np.asarray(x, float) - np.mean(x)
    r = [float(x[: n - k] @ x[k:]) / float(x @ x) for k in range(1, n // 3 + 1)]
    total, m = 0.0, 0
    while 2 * m + 1 < len(r) and r[2 * m] + r[2 * m + 1] >= 0:
        total, m = total + r[2 * m] + r[2 * m + 1], m + 1
    w = min((4 * m + 1) / n, 0.45)
    upper = max(1.0, 1 + 2 * total) / (1 - w) * (1 + 2 * math.sqrt(2 * w))
    b = n // 16
    means = [float(np.sum(x[i : i + b])) for i in range(n - b + 1)]
    return max(upper, n / b * sum(d * d for d in means) / ((n - b + 1) * (n - b)) / (float(x @ x) / n))


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.99])
def test_the_autocorrelation_time_equals_plain_sums(memory):
    x = np.zeros(700)
    for i in range(1, 700):
        x[i] = memory * x[i - 1] + RNG.standard_normal()
    assert rules.autocorrelation_time(x)[0] == pytest.approx(slow_tau(x), rel=1e-9)


def test_the_autocorrelation_time_covers_the_known_one_of_an_autoregression():
    x = np.zeros((200, 5_000))
    for i in range(1, 5_000):
        x[:, i] = 0.8 * x[:, i - 1] + RNG.standard_normal(200)
    assert (rules.autocorrelation_time(x) >= 1.8 / 0.2).mean() > 0.95


@pytest.mark.parametrize(("p0", "n"), [(0.2, 21), (0.1, 44), (0.05, 90)])
def test_spaced_load_with_nothing_over_the_limit_passes_exactly_here(p0, n):
    assert rules.judge_spaced(n, 0, p0, last_look=False).outcome is Outcome.PASS
    assert rules.judge_spaced(n - 1, 0, p0, last_look=False).outcome is None
    last = rules.judge_spaced(n - 1, 0, p0, last_look=True)
    assert (last.outcome, last.reason, last.needs) == (Outcome.INVALID, Reason.INSUFFICIENT, n)


@pytest.mark.parametrize("bad", [0, 1, 3, 10])
def test_what_a_spaced_gate_needs_is_the_least_that_passes_with_no_more_bad(bad):
    needs = rules.judge_spaced(bad + 5, bad, 0.2, last_look=True, required_gates=1_000_000).needs
    assert rules.judge_spaced(needs, bad, 0.2, last_look=True).outcome is Outcome.PASS
    assert rules.judge_spaced(needs - 1, bad, 0.2, last_look=True).outcome is not Outcome.PASS


@pytest.mark.parametrize("p0", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("n", [30, 90, 300])
def test_a_spaced_pass_is_exactly_an_upper_bound_within_the_limit(p0, n):
    for bad in range(n + 1):
        seen = rules.judge_spaced(n, bad, p0, last_look=True)
        assert (seen.outcome is Outcome.PASS) == (seen.upper <= p0)
        assert (seen.outcome is Outcome.FAIL) == (seen.lower > p0)


def test_spaced_errors_over_five_looks_stay_within_the_nominal_rate():
    """Enumerated, not simulated: the chance that any look passes at the limit itself."""
    p0, sizes = 0.2, rules.look_sizes(21)
    alive, passed, at = {0: 1.0}, 0.0, 0
    for n in sizes:
        for _ in range(n - at):
            grown: dict[int, float] = {}
            for bad, mass in alive.items():
                grown[bad] = grown.get(bad, 0) + mass * (1 - p0)
                grown[bad + 1] = grown.get(bad + 1, 0) + mass * p0
            alive = grown
        at = n
        done = [k for k in alive if rules.judge_spaced(n, k, p0, last_look=False).outcome is Outcome.PASS]
        passed += sum(alive.pop(k) for k in done)
    assert 0.01 < passed <= 0.05


def test_a_sound_run_passes_and_a_bad_one_fails_at_the_first_look():
    x = RNG.exponential(1, 4_000)
    assert rated(x, 5.0).outcome is Outcome.PASS
    assert rated(x, 1.5).outcome is Outcome.FAIL


@pytest.mark.parametrize("share", [0.5, 0.55, 0.6])
@pytest.mark.parametrize("p0", [0.01, 0.05, 0.1, 0.2])
def test_a_bimodal_candidate_half_of_it_twenty_times_slower_fails(share, p0):
    x = RNG.lognormal(0, 0.1, 2_400) * np.where(RNG.random(2_400) < share, 20, 1)
    assert rated(x, 1.5, p0).outcome is Outcome.FAIL
    assert rules.judge_spaced(60, round(60 * share), p0, last_look=False).outcome is Outcome.FAIL


def test_a_target_that_only_fails_is_a_fail_and_no_crash():
    seen = rules.judge_rated(np.ones(600, bool), np.full(600, np.inf), 0.05, last_look=False)
    assert (seen.outcome, seen.reason, seen.observed) == (Outcome.FAIL, Reason.BREACH, math.inf)
    assert json.loads(json.dumps(seen.as_record(), allow_nan=False))["observed"] == "inf"


def test_undecided_is_said_at_the_last_look_only_and_says_what_it_needs():
    x = RNG.exponential(1, 2_400)
    limit = float(np.quantile(x, 0.957))
    early, last = rated(x, limit, last_look=False), rated(x, limit)
    assert (early.outcome, early.reason) == (None, Reason.UNDECIDED)
    assert (last.outcome, last.reason) == (Outcome.INVALID, Reason.UNDECIDED)
    more, alpha = int(last.share * last.needs), rules.alphas(0.95)
    assert rules.decide(last.needs, more, more, 0.05, last.tau, alpha) is Outcome.PASS
    assert rated(RNG.permutation(np.tile(x, math.ceil(3 * last.needs / 2_400))), limit).outcome is Outcome.PASS


def test_a_run_too_short_for_its_own_dependence_is_insufficient_not_passed():
    x = np.zeros(2_400)
    for i in range(1, 2_400):
        x[i] = 0.99 * x[i - 1] + RNG.standard_normal()
    seen = rated(x, x.max() + 1)
    assert (seen.outcome, seen.reason) == (Outcome.INVALID, Reason.INSUFFICIENT)
    assert seen.needs >= 80 * seen.tau > 2_400


def test_ninety_nine_perfect_requests_of_a_rated_load_prove_nothing():
    seen = rated(np.full(99, 0.1), 1.0)
    assert (seen.outcome, seen.reason) == (Outcome.INVALID, Reason.INSUFFICIENT)
    assert seen.needs >= 2_000


def test_no_bad_request_more_ever_turns_a_fail_or_undecided_into_a_pass():
    x, order = RNG.exponential(1, 3_000), {Outcome.PASS: 0, None: 1, Outcome.FAIL: 2}
    shuffled = RNG.permutation(3_000)
    seen = []
    for k in range(0, 400, 20):
        bad = np.zeros(3_000, bool)
        bad[shuffled[:k]] = True
        seen.append(order[rules.judge_rated(bad, x, 0.05, last_look=False).outcome])
    assert seen == sorted(seen)
    assert {0, 1, 2} == set(seen)


def test_requests_cut_off_by_the_end_count_against_pass_and_not_for_fail():
    x, bad = RNG.exponential(1, 3_000), np.zeros(3_000, bool)
    bad[::10] = True
    cut = rules.judge_rated(bad, x, 0.05, last_look=False, unproven=bad)
    assert (cut.outcome, cut.lower) == (None, 0.0)
    assert rules.judge_rated(bad, x, 0.05, last_look=False).outcome is Outcome.FAIL
    assert rules.judge_spaced(100, 40, 0.2, last_look=False, unproven=40).outcome is None


def test_a_candidate_that_turns_bad_in_the_last_third_fails_and_is_told_where():
    x = RNG.exponential(1, 7_200)
    x[4_800:] *= 2.5
    seen = rated(x, 4.5)
    assert seen.outcome is Outcome.FAIL
    assert "last third" in seen.detail


def test_each_window_must_hold_what_all_of_them_together_show():
    x, late = RNG.exponential(1, 6_000), np.zeros(6_000, bool)
    late[:4_000:50] = late[4_000::19] = True
    joined, apart = (rules.judge_rated(late, x, 0.05, last_look=True, windows=count) for count in (1, 3))
    assert (joined.outcome, apart.outcome, apart.reason) == (Outcome.PASS, Outcome.INVALID, Reason.UNDECIDED)
    assert apart.detail.endswith("undecided: all together pass, window 3 of 3 alone has 106 of 2000 bad")
    assert rules.judge_rated(late, x, 0.05, last_look=False, windows=3).outcome is None


@pytest.mark.parametrize(("at", "outcome"), [((20, 50), Outcome.PASS), ((3, 5), Outcome.PASS), ((1, 2, 5, 9), None)])
def test_the_windows_of_a_spaced_load_are_held_to_the_allowed_share(at, outcome):
    bad = np.isin(np.arange(63), at)
    windows = rules.windowed(bad, 3)
    assert windows == tuple((21, int(part.sum())) for part in np.split(bad, 3))
    assert rules.judge_spaced(63, len(at), 0.19, last_look=False, windows=windows).outcome is outcome
    assert rules.judge_spaced(63, len(at), 0.19, last_look=False).outcome is Outcome.PASS


def test_windows_never_fail_a_gate_and_a_failing_one_stays_failed():
    bad = np.arange(60) >= 30
    seen = rules.judge_spaced(60, 30, 0.2, last_look=True, windows=rules.windowed(bad, 3))
    assert (seen.outcome, "window" in seen.detail) == (Outcome.FAIL, False)


def test_a_plan_of_windows_needs_a_request_in_the_tail_of_each():
    assert rules.can_decide(0.2, "spaced", 21, 1.0, windows=3).pass_at == 21
    alone, three = (rules.can_decide(0.01, "spaced", 20, 1.0, confidence=0.6, windows=count).pass_at for count in (1, 3))
    assert (alone, three) == (252, 300)


def test_fail_is_asked_at_the_looks_and_gates_share_of_the_error():
    assert rules.alphas(0.95, 4) == (pytest.approx(0.01), pytest.approx(0.0025))
    assert rules.look_sizes(21) == (21, 32, 42, 63, 84)


@pytest.mark.parametrize("latency", [[math.nan] * 200, [0.1] * 199 + [math.nan]], ids=["all", "one"])
def test_nan_cannot_be_judged(latency):
    with pytest.raises(Unjudged) as seen:
        rated(latency, 1.0)
    assert seen.value.reason is Reason.NO_DATA


@pytest.mark.parametrize(
    "judge", [lambda: rated([], 1.0), lambda: rules.judge_spaced(0, 0, 0.2, last_look=True)], ids=["rated", "spaced"]
)
def test_nothing_cannot_be_judged(judge):
    with pytest.raises(Unjudged) as seen:
        judge()
    assert seen.value.reason is Reason.EMPTY


@pytest.mark.parametrize("p0", [0.0, 1.0, -0.1])
def test_a_limit_that_is_no_share_is_a_fault_of_the_caller(p0):
    with pytest.raises(HarnessError):
        rules.judge_spaced(30, 0, p0, last_look=True)


def test_the_percentile_is_the_nearest_rank_and_knows_infinity():
    assert rules.percentile([3, 1, 2, 4], 0.5) == 2
    assert rules.percentile(range(1, 21), 0.95) == 19
    assert rules.percentile([1.0] * 94 + [math.inf] * 6, 0.95) == math.inf
    assert rules.percentile([7.0], 0.01) == 7


def test_a_point_estimate_says_that_it_is_one_and_needs_a_request_in_its_tail():
    assert "point estimate" in rules.judge_point(100, 5, 0.05, observed=0.3).detail
    assert rules.judge_point(19, 0, 0.05, last_look=False, observed=0.3).outcome is None
    outcomes = [rules.judge_point(n, k, 0.05, observed=0.3).outcome for n, k in ((100, 5), (100, 6), (19, 0))]
    assert outcomes == [Outcome.PASS, Outcome.FAIL, Outcome.INVALID]


def test_a_plan_is_told_what_it_can_decide():
    demo = rules.can_decide(0.2, "spaced", 21, 1.0)
    assert (demo.pass_at, demo.can_pass, demo.can_fail, demo.requests) == (21, True, True, (21, 84))
    assert demo.minutes == (pytest.approx(0.35), pytest.approx(1.4))
    assert not rules.can_decide(0.5, "spaced", 1, 1.0, required_gates=100).can_fail
    assert not rules.can_decide(0.05, "poisson", 24, 8.0).can_fail
    assert not rules.can_decide(0.05, "poisson", 499, 8.0).can_pass
    assert rules.can_decide(0.05, "poisson", 500, 8.0).can_pass
    assert rules.can_decide(0.0, "poisson", 5_000, 8.0).pass_at is None


@pytest.mark.parametrize(("p0", "arrivals"), [(0.2, "spaced"), (0.01, "spaced"), (0.001, "constant"), (0.05, "poisson")])
def test_the_fewest_requests_that_can_pass_or_fail_do_and_one_fewer_do_not(p0, arrivals):
    def judge(n, bad):
        if arrivals == "spaced":
            return rules.judge_spaced(n, n if bad else 0, p0, last_look=True).outcome
        return rules.judge_rated(np.full(n, bad), np.full(n, 0.1), p0, last_look=True).outcome

    able = rules.can_decide(p0, arrivals, 1, 1.0)
    passes, fails = judge(able.pass_at, False), judge(able.fail_at, True)
    assert (passes, fails) == (Outcome.PASS, Outcome.FAIL)
    assert judge(able.pass_at - 1, False) is not Outcome.PASS
    assert able.fail_at == 1 or judge(able.fail_at - 1, True) is not Outcome.FAIL


def test_planning_asks_for_more_where_it_is_harder_and_for_none_where_it_is_hopeless():
    assert rules.needs_requests(0.2, "spaced") == (21, 39)
    assert rules.needs_requests(0.05, "poisson", utilisation=0.5) == (2_000, 10_000)
    assert rules.needs_requests(0.05, "poisson", utilisation=0.7) == (5_000, 50_000)
    assert rules.needs_requests(0.05, "poisson", utilisation=0.95) == (None, None)
    assert rules.needs_requests(0.0005, "poisson", utilisation=0.5, headroom=2)[0] > 9_000


def test_a_million_requests_are_judged_in_seconds_of_cpu():
    import time

    x = RNG.exponential(1, 1_000_000)
    began = time.process_time()
    assert rated(x, 3.2).outcome is Outcome.PASS
    assert time.process_time() - began < 8


def test_gates_import_neither_numpy_nor_scipy_before_they_are_asked():
    code = "import sys, hotfire.gates.slo; sys.exit(any(m in sys.modules for m in ('numpy', 'scipy', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scipy_stats_is_not_used_in_the_package():
    for path in Path(rules.__file__).parent.glob("*.py"):
        names = [n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        assert "scipy.stats" not in names

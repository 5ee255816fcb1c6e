"""From samples to judgements: what is bad, what is cut off, what silence is."""

import itertools
import math

import numpy as np
import pytest

from hotfire.errors import HarnessError, Unjudged
from hotfire.gates import flow, slo
from hotfire.words import Outcome, Reason

NAN = math.nan


def samples(n=100, until=1_000.0, **over):
    """n requests a second apart: first byte and token after 0.1 s, last after 0.5 s, 10 tokens, p99 gap 0.05 s."""
    due = np.arange(n, dtype=float)
    columns = {"due": due, "sent": due, "first_byte": due + 0.1, "first_token": due + 0.1, "last": due + 0.5,
               "error": [""] * n, "gap_p99": [0.05] * n, "gap_max": [0.06] * n, "tokens": [10] * n}  # fmt: skip
    for name, changes in over.items():
        if isinstance(changes, dict):
            columns[name] = [changes.get(i, v) for i, v in enumerate(columns[name])]
        else:
            columns[name] = changes
    return slo.Samples.of(until, **columns)


def judged(s, metric="ttft", limit=0.2, q=0.8, **more):
    how = {"ratio": q} if metric == "errors" else {"quantile": q, "limit_s": limit}
    if metric == "goodput":
        how = {"ratio": limit, "within": q}
    return slo.judge(s, metric, **how, **{"arrivals": "spaced", "last_look": True, **more})


@pytest.mark.parametrize(("metric", "good", "tight"), [("ttft", 0.2, 0.09), ("itl", 0.06, 0.04), ("gap", 0.07, 0.05),
                                                       ("e2e", 0.6, 0.4)])  # fmt: skip
def test_each_latency_is_held_against_its_own_figure(metric, good, tight):
    assert judged(samples(), metric, good).outcome is Outcome.PASS
    assert judged(samples(), metric, tight).outcome is Outcome.FAIL


def test_latency_counts_from_the_due_time_even_when_sending_was_late():
    late = samples(sent=np.arange(100.0) + 5, first_byte=np.arange(100.0) + 5.1, first_token=np.arange(100.0) + 5.1,
                   last=np.arange(100.0) + 5.5)  # fmt: skip
    assert judged(late).outcome is Outcome.FAIL
    assert judged(late).observed == pytest.approx(5.1)


def test_failures_are_infinitely_late_in_every_percentile():
    seen = judged(samples(error=dict.fromkeys(range(60), "http-5xx")))
    assert (seen.outcome, seen.bad, seen.observed) == (Outcome.FAIL, 60, math.inf)


def test_a_request_without_a_slot_counts_although_it_was_never_sent():
    gone = dict.fromkeys(range(60), NAN)
    lost = samples(error=dict.fromkeys(range(60), "backlog"), sent=gone, first_byte=gone, first_token=gone, last=gone)
    assert judged(lost).outcome is Outcome.FAIL
    assert judged(lost, "errors", q=0.05).outcome is Outcome.FAIL


def test_errors_are_judged_by_their_ratio():
    assert judged(samples(), "errors", q=0.05).outcome is Outcome.PASS
    one = judged(samples(error={3: "timeout"}), "errors", q=0.05)
    assert (one.outcome, one.reason, one.observed, one.needs) == (Outcome.INVALID, Reason.UNDECIDED, 0.01, 130)


def test_an_open_request_never_improves_a_gate_and_fails_it_only_past_the_limit():
    gone = dict.fromkeys(range(60), NAN)
    young = samples(until=100.0, last=gone, first_byte=gone, first_token=gone)
    assert judged(young, limit=200.0).outcome is Outcome.INVALID
    assert judged(young, limit=0.2).outcome is Outcome.FAIL
    assert judged(young, "errors", q=0.05).outcome is Outcome.INVALID
    assert judged(young, "errors", q=0.05, timeout_s=30).outcome is Outcome.FAIL


def test_an_open_request_with_a_fast_first_token_still_does_not_count_as_good():
    seen = judged(samples(last=dict.fromkeys(range(60), NAN)))
    assert (seen.outcome, seen.bad, seen.lower) == (Outcome.INVALID, 60, 0.0)


def test_an_earlier_look_knows_only_what_was_known_then():
    then = samples(error={5: "timeout"}, last={5: 60.0}).up_to(due=40.0, until=39.2)
    assert (len(then), list(np.flatnonzero(then.unanswered)), then.failed.sum()) == (40, [5, 39], 0)
    assert math.isnan(then.gap_p99[39]) and then.first_token[39] == pytest.approx(39.1)


def test_single_token_answers_have_no_gap_and_are_left_out_of_it():
    assert judged(samples(tokens=dict.fromkeys(range(40), 1), gap_p99=dict.fromkeys(range(40), NAN)), "itl", 0.06).n == 60
    with pytest.raises(Unjudged) as seen:
        judged(samples(tokens=[1] * 100), "itl", 0.06)
    assert seen.value.reason is Reason.EMPTY


@pytest.mark.parametrize("broken", [{"first_token": {7: NAN}}, {"first_token": {7: 3.0}}, {"due": {7: NAN}},
                                    {"tokens": [1] * 99}, {"due": [0.0] * 100, "first_token": [-1.0] * 100}],
                         ids=["no token", "before due", "no due", "short column", "negative"])  # fmt: skip
def test_samples_that_cannot_be_true_are_no_data(broken):
    with pytest.raises(Unjudged) as seen:
        judged(samples(**broken))
    assert seen.value.reason is Reason.NO_DATA


def test_no_request_is_no_population():
    with pytest.raises(Unjudged) as seen:
        judged(samples(n=0))
    assert seen.value.reason is Reason.EMPTY


@pytest.mark.parametrize("wrong", [{"metric": "tftt"}, {"arrivals": "burst"}, {"ratio": 0.1}, {"quantile": None}])
def test_a_gate_that_does_not_exist_is_refused(wrong):
    how = {"metric": "ttft", "quantile": 0.8, "limit_s": 0.2, "arrivals": "spaced", "last_look": True, **wrong}
    with pytest.raises(HarnessError):
        slo.judge(samples(), how.pop("metric"), **how)


def test_a_latency_of_exactly_the_limit_is_within_it_whatever_the_clock_says():
    due = np.arange(100.0) * 1_234.567
    exact = samples(due=due, first_token=due + 0.2, until=1e6)
    assert judged(exact, limit=0.2).bad == 0


def test_rows_may_come_in_any_order():
    s, back = samples(), slice(None, None, -1)
    columns = {n: getattr(s, n)[back] for n in ("due", "sent", "first_byte", "first_token", "last", "error", "gap_p99",
                                               "gap_max", "tokens")}  # fmt: skip
    assert (slo.Samples.of(1_000.0, **columns).due == s.due).all()


def test_goodput_is_the_share_within_every_limit_at_once():
    slow, torn = dict.fromkeys(range(0, 20, 2), 0.9), dict.fromkeys(range(0, 20, 5), 0.4)
    mixed = samples(first_token={i: i + at for i, at in slow.items()}, gap_p99=torn)
    parts = [judged(mixed, metric, limit) for metric, limit in (("ttft", 0.2), ("itl", 0.1))]
    both = judged(mixed, "goodput", 0.2, {"ttft": 0.2, "itl": 0.1})
    assert [one.bad for one in parts] == [10, 4] and (both.bad, both.observed) == (12, 0.88)
    alone = judged(mixed, "goodput", 0.2, {"ttft": 0.2})
    assert (alone.bad, alone.lower, alone.outcome) == (parts[0].bad, parts[0].lower, parts[0].outcome)


def test_goodput_counts_failures_and_answers_without_gaps_and_what_was_cut_off():
    within = {"ttft": 0.2, "itl": 0.1}
    short = samples(tokens=dict.fromkeys(range(40), 1), gap_p99=dict.fromkeys(range(40), NAN))
    assert (judged(short, "goodput", 0.2, within).n, judged(short, "goodput", 0.2, within).bad) == (100, 0)
    failing = judged(samples(error=dict.fromkeys(range(60), "http-5xx")), "goodput", 0.2, within)
    assert (failing.outcome, failing.bad) == (Outcome.FAIL, 60)
    gone = dict.fromkeys(range(60), NAN)
    young = samples(until=100.0, last=gone, first_byte=gone, first_token=gone, gap_p99=gone)
    assert judged(young, "goodput", 0.2, {"ttft": 200.0}).outcome is Outcome.INVALID
    assert judged(young, "goodput", 0.2, within).outcome is Outcome.FAIL


def test_rated_load_needs_its_two_thousand_and_none_is_a_point_estimate():
    assert judged(samples(), arrivals="poisson").reason is Reason.INSUFFICIENT
    assert judged(samples(2_500, until=1e4), arrivals="poisson").outcome is Outcome.PASS
    assert "point estimate" in judged(samples(), confidence=None).detail


def brute(begin, end, heard):
    """The longest silence by looking at every pair of neighbouring moments."""
    moments = sorted({*begin, *end, *heard})
    worst = 0.0
    for a, b in itertools.pairwise(moments):
        if any(x <= a and b <= y for x, y in zip(begin, end, strict=True)):
            start = a
            while start not in heard and any(x < start <= y for x, y in zip(begin, end, strict=True)):
                start = moments[moments.index(start) - 1]
            worst = max(worst, b - start)
    return worst


@pytest.mark.parametrize("seed", range(30))
def test_the_longest_stall_equals_a_search_over_all_moments(seed):
    rng = np.random.default_rng(seed)
    begin = rng.integers(0, 60, 12) / 2
    end = begin + rng.integers(1, 9, 12) / 2
    heard = list(rng.choice(np.concatenate([end, begin + 0.25]), 9))
    assert flow.longest_stall(begin, end, heard)[0] == pytest.approx(brute(list(begin), list(end), heard))


def test_a_freeze_across_all_streams_is_a_stall_and_idle_time_is_not():
    heard = [t for t in np.arange(0.1, 30, 0.1) if not 10 < t < 17]
    frozen = samples(3, until=200.0, due=[0.0, 1.0, 100.0], sent=[0.0, 1.0, 100.0], first_byte=[0.1, 1.1, 100.1],
                     first_token=[0.1, 1.1, 100.1], last=[29.9, 20.0, 100.5], heard=[*heard, 100.1, 100.5])  # fmt: skip
    seen = slo.stall(frozen, 5.0)
    assert (seen.outcome, seen.reason, seen.exact) == (Outcome.FAIL, Reason.STALLED, True)
    assert (seen.seconds, seen.at) == (pytest.approx(7.0), pytest.approx(10.0))
    assert slo.stall(frozen, 8.0).outcome is Outcome.PASS


def test_a_target_that_never_answers_is_silent_from_the_first_request_to_the_end():
    gone = [NAN] * 3
    dead = samples(3, until=12.0, first_byte=gone, first_token=gone, last=gone, heard=[])
    seen = slo.stall(dead, 5.0)
    assert (seen.outcome, seen.seconds, seen.at) == (Outcome.FAIL, 12.0, 0.0)


def test_without_byte_times_only_a_gap_that_all_streams_share_is_a_stall():
    two = {"due": [0.0, 0.0], "sent": [0.0, 0.0], "first_byte": [0.1, 0.1], "first_token": [0.1, 0.1],
           "last": [30.0, 30.0], "gap_max": [7.0, 7.0]}  # fmt: skip
    same = slo.stall(samples(2, until=60.0, **two, gap_at=[10.0, 11.0]), 5.0)
    apart = slo.stall(samples(2, until=60.0, **two, gap_at=[10.0, 20.0]), 5.0)
    assert (same.outcome, same.seconds, same.exact) == (Outcome.FAIL, pytest.approx(6.0), False)
    assert (apart.outcome, apart.seconds) == (Outcome.PASS, pytest.approx(0.1))


@pytest.mark.parametrize("blind", [{"gap_max": {3: 7.0}}, {"error": {3: "timeout"}, "last": {3: NAN}}], ids=["gap", "end"])
def test_a_stall_that_nobody_could_see_is_no_data(blind):
    with pytest.raises(Unjudged) as seen:
        slo.stall(samples(**blind), 5.0)
    assert seen.value.reason is Reason.NO_DATA


def test_utilisation_is_the_share_of_the_time_with_a_request_in_flight():
    seen = flow.flow([0.0, 1.0, 4.0, 10.0], [2.0, 3.0, 6.0, math.inf])
    assert (seen.busy, seen.mean) == (pytest.approx(0.5), pytest.approx(0.6))
    assert (flow.flow([1.0], [2.0]).busy, flow.flow([0.0, 5.0], [math.inf, math.inf]).busy) == (0.0, 1.0)
    with pytest.raises(Unjudged):
        flow.flow([], [])


def test_a_queue_that_only_grows_is_saturated_and_a_steady_one_is_not():
    rng = np.random.default_rng(5)
    due = np.cumsum(rng.exponential(1, 2_000))
    steady = due + rng.exponential(3, 2_000)
    growing = np.maximum.accumulate(due + 0.2 * np.arange(2_000))
    assert flow.saturated(flow.in_flight(due, growing))
    assert not flow.saturated(flow.in_flight(due, steady))
    assert (flow.confirmed(flow.in_flight(due, growing)), flow.confirmed(flow.in_flight(due, steady))) == (True, False)
    once = np.maximum.accumulate(due + 0.2 * np.minimum(np.arange(2_000), 1_000))
    assert not flow.confirmed(flow.in_flight(due, once))
    assert flow.in_flight([0, 1, 2], [1.5, math.inf, 3]).tolist() == [0, 1, 1]

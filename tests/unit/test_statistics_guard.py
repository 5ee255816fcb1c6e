"""The burn guard: it ends a rated load only on what the judge then calls FAIL, and only while it still burns."""

import itertools

import numpy as np
import pytest

from hotfire.gates import guard
from hotfire.gates import statistics as rules
from hotfire.load.samples import Samples
from hotfire.report import objective
from hotfire.words import Outcome

ALPHA = 0.01
COUNTS = sorted({guard.checkpoint(n) for n in range(12_000)} - {0})


def ended_at(bad, latency, p0=0.05, alpha=ALPHA):
    """The first checkpoint at which it burns; None when it never does."""
    counts = (n for n in COUNTS if n <= len(bad))
    return next((n for n in counts if guard.burns(bad[:n], latency[:n], p0, alpha)), None)


def run(*parts, seed=3):
    """Exponential latencies, each part (requests, factor) so many times as slow; inf fails all of it."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.exponential(1, n) * factor for n, factor in parts])


def test_it_is_asked_at_fixed_counts_that_grow_by_a_twentieth():
    assert [guard.checkpoint(n) for n in (0, 99, 100, 104, 105, 2_400)] == [0, 0, 100, 100, 105, 2_383]
    assert 47_000 < guard.checkpoint(guard.MOST + guard.STEP - 1) < guard.MOST
    assert [guard.checkpoint(n) for n in (50_600, 51_199, 10**6 - 1)] == [50_600, 50_600, 999_800]
    assert all(guard.checkpoint(n) == n for n in COUNTS)
    assert max(b / a for a, b in itertools.pairwise(COUNTS)) < 1.06


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_load_is_never_ended(seed):
    x = run((9_600, 1), seed=seed)
    assert ended_at(x > 3.1, x) is None


def test_a_target_that_only_fails_is_ended_at_the_first_count():
    x = np.full(300, np.inf)
    assert ended_at(x > 3, x) == 100


def test_half_of_it_bad_may_be_one_burst_until_there_are_enough():
    x = run((600, 20)) * np.tile([1, 0.01], 300)
    assert 0.4 < (x > 3).mean() < 0.5
    assert ended_at(x > 3, x) == guard.checkpoint(420) > guard.EARLY


def test_what_is_over_does_not_end_a_load():
    x = run((500, 1), (60, 1))
    x[:500:2] += 10
    assert guard.burns((x > 3)[:500], x[:500], 0.05, ALPHA)
    assert not guard.burns(x > 3, x, 0.05, ALPHA)


def test_a_target_that_dies_late_is_ended_by_its_newest_third():
    x = run((3_000, 1), (3_000, np.inf))
    assert 3_800 < ended_at(x > 3.5, x) < 5_000


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("parts", [((2_400, 3),), ((1_200, 1), (2_400, 4)), ((3_000, 1), (3_000, np.inf))], ids=str)
def test_what_it_ends_is_judged_fail_on_the_very_same_requests(parts, seed):
    x = run(*parts, seed=seed)
    n = ended_at(x > 3.5, x)
    assert n is not None
    judged = rules.judge_rated(x[:n] > 3.5, x[:n], 0.05, last_look=True, windows=3)
    assert judged.outcome is Outcome.FAIL, judged.detail


def test_more_required_gates_leave_each_less_error():
    x = run((200, 1)) + 9 * (np.arange(200) % 10 > 0)
    assert [a for a in (1e-2, 1e-250) if guard.burns(x > 3, x, 0.05, a)] == [1e-2]


# -- a long soak


GATE = {
    "metric": "e2e", "statistic": "p95", "limit": 4.0, "confidence": 0.95, "arrivals": "poisson", "timeout_s": 60.0,
    "until": 1e6, "required_gates": 1,
}  # fmt: skip


def soak(good: int, dead: int, seed: int = 3) -> Samples:
    """So many answered in exponential times, then so many that fail after a second; one a second."""
    seconds = np.random.default_rng(seed).exponential(1, good + dead)
    n, failed = len(seconds), np.arange(good + dead) >= good
    due = np.arange(n, dtype=float)
    end = due + np.where(failed, 1.0, seconds)
    columns = {"i": np.arange(n), "warm": np.zeros(n, int), "err": failed.astype(int), "n": np.full(n, 4)}
    never = np.full(n, np.nan)
    times = {"due": due, "sent": due, "fb": end, "ft": end, "end": end, "gap_p99": never, "gap_max": never}
    return Samples({**columns, **times}, {"err": ["", "http-5xx"]}, ())


def gate(requests: int) -> dict[str, object]:
    return {**GATE, "requests": requests}


def soak_ended_at(samples: Samples, since: int) -> int | None:
    counts = sorted({guard.checkpoint(n) for n in range(since, len(samples) + 1)})
    return next((n for n in counts if objective.burning(samples, gate(n))), None)


def test_a_death_late_in_a_soak_is_seen_as_soon_as_at_any_other_time_and_judged_fail():
    samples = soak(80_000, 6_000)
    n = soak_ended_at(samples, guard.MOST + guard.STEP)
    assert n is not None and 80_000 < n <= 80_000 + guard.RECENT // 3 + guard.STEP
    judged = objective.judge(samples, gate(n), look=1, last_look=True)
    assert judged.outcome is Outcome.FAIL and judged.detail.startswith("the newest 12,000 of them fail it beyond doubt")
    assert judged.bad / judged.n < 0.08


def test_a_sound_soak_is_not_ended_and_passes():
    samples = soak(120_000, 0)
    assert soak_ended_at(samples, guard.MOST + guard.STEP) is None
    assert objective.judge(samples, gate(120_000), look=1, last_look=True).outcome is Outcome.PASS


def test_what_a_soak_has_outlived_does_not_end_it():
    samples = soak(60_000, 0)
    samples.columns["err"][20_000:21_500] = 1
    assert soak_ended_at(samples, guard.MOST + guard.STEP) is None

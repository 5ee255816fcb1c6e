"""Is a candidate slower than what was certified before, by more than a margin? Against stored runs of the same kind.

Runs of one and the same candidate differ from one another (A/A noise): by when they ran, not by how many requests they held,
so requests say nothing of it and runs do. The logarithms of their percentiles are taken as normal; the ratio of the
candidate's to their geometric mean then lies within Student's prediction interval, t sd sqrt(1 + 1/n) either way. Pure.
"""

import math
from collections.abc import Sequence

from hotfire.errors import Unjudged
from hotfire.gates.statistics import Judgement, alphas
from hotfire.words import Outcome, Reason

FEWEST = 3  # stored runs: of two the noise is hardly known (t of one degree of freedom)


def judge_regression(
    value: float, stored: Sequence[float], margin: float, *, confidence: float, required_gates: int, requests: int, look: int
) -> Judgement:
    """value, stored: the same percentile of the candidate and of each stored run, seconds; value inf when it has none.

    margin: how much slower it may be (0.1 for 10 %). PASS and FAIL where the whole interval of the slowdown is on one side of
    it, else INVALID: PASS at 1 - confidence, FAIL at the error of one look at a gate, since logarithms of percentiles near
    saturation lean to the right (simulated: at that an equal candidate FAILs in 2 % of comparisons at most).
    Raises Unjudged INSUFFICIENT below FEWEST runs, NO_DATA for a stored percentile that is no time.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    n = len(stored)
    if n < FEWEST:
        raise Unjudged(f"{n} stored runs, their noise needs {FEWEST} at least", reason=Reason.INSUFFICIENT)
    if not all(0 < one < math.inf for one in stored) or not value > 0:
        raise Unjudged(f"no percentile to compare in {[value, *stored]}", reason=Reason.NO_DATA)
    logs = [math.log(one) for one in stored]
    mean = sum(logs) / n
    sd = math.sqrt(sum((one - mean) ** 2 for one in logs) / (n - 1))
    alpha = (1 - confidence, alphas(confidence, required_gates)[1])
    lower, ratio, upper = (
        math.exp(math.log(value) - mean + side * float(stdtrit(n - 1, 1 - spent)) * sd * math.sqrt(1 + 1 / n)) - 1
        for side, spent in ((-1, alpha[1]), (0, 0.5), (1, alpha[0]))
    )
    outcome = Outcome.FAIL if lower > margin else Outcome.PASS if upper <= margin else Outcome.INVALID
    reason = {Outcome.FAIL: Reason.BREACH, Outcome.INVALID: Reason.UNDECIDED}.get(outcome)
    line = (
        f"{value:.3g} s against {math.exp(mean):.3g} s of {n} stored runs: {_slower(ratio)}, by their own noise "
        f"{_slower(lower)} to {_slower(upper)} at {confidence:.0%}, at most {margin:.0%} slower is allowed"
    )
    return Judgement(
        outcome, reason, requests, 0, ratio, margin, alpha[outcome is Outcome.FAIL], look, lower, upper, 1.0, float(requests),
        None, ratio, line,
    )  # fmt: skip


def _slower(share: float) -> str:
    return f"{share:.3g}" if math.isinf(share) else f"{abs(share):.1%} {'slower' if share >= 0 else 'faster'}"

"""An objective judged on samples: what a load above capacity, or no request at all, comes to."""

from pathlib import Path

import pytest

from hotfire.errors import Unjudged
from hotfire.load import samples
from hotfire.report import objective
from hotfire.words import Outcome, Reason
from tests.recorded_run import write_samples


@pytest.mark.parametrize(("slow", "growth", "arrivals", "grew"), [
    (1.0, 1.0, "poisson", True), (8.0, 0.0, "poisson", False), (1.0, 1.0, "spaced", False), (1.0, 0.0, "poisson", False),
])  # fmt: skip
def test_a_load_above_capacity_is_named_as_that(tmp_path: Path, slow: float, growth: float, arrivals: str, grew: bool) -> None:
    write_samples(tmp_path / "s.gz", 200, slow, False, growth)
    gate = {"metric": "e2e", "statistic": "p80", "limit": 2.0, "confidence": 0.95, "arrivals": arrivals, "timeout_s": 900,
            "until": 900, "requests": 200, "required_gates": 1, "windows": 3}  # fmt: skip
    found = objective.judge(samples.read(tmp_path / "s.gz"), gate, look=1, last_look=True)
    assert (objective.SATURATED in found.detail) is grew, found
    if grew:
        assert found.outcome is not Outcome.PASS


@pytest.mark.parametrize(("growth", "metric", "reason"), [
    (0.5, "e2e", Reason.SATURATED), (0.0, "e2e", Reason.INSUFFICIENT), (0.5, "errors", Reason.INSUFFICIENT),
])  # fmt: skip
def test_a_latency_above_capacity_fails_although_no_bound_would_ever_decide_it(
    tmp_path: Path, growth: float, metric: str, reason: Reason
) -> None:
    write_samples(tmp_path / "s.gz", 400, 1.0, False, growth)
    gate = {"metric": metric, "statistic": "p80", "limit": 0.2 if metric == "errors" else 800.0, "confidence": 0.95,
            "arrivals": "poisson", "timeout_s": 900, "until": 900, "requests": 400, "required_gates": 1,
            "windows": 3}  # fmt: skip
    found = objective.judge(samples.read(tmp_path / "s.gz"), gate, look=1, last_look=True)
    assert (found.reason, found.outcome is Outcome.FAIL) == (reason, reason is Reason.SATURATED)


def test_an_objective_without_requests_is_unjudged(tmp_path: Path) -> None:
    write_samples(tmp_path / "s.gz", 0, 1.0, fails=False)
    gate = {
        "metric": "e2e",
        "statistic": "p80",
        "limit": 2.0,
        "confidence": 0.95,
        "arrivals": "spaced",
        "timeout_s": 9,
        "until": 9,
        "requests": 5,
        "required_gates": 1,
        "windows": 1,
    }
    with pytest.raises(Unjudged, match="no request"):
        objective.judge(samples.read(tmp_path / "s.gz"), gate, look=1, last_look=True)

"""`hotfire arm` tells a pipeline to deploy only once all that is asked before was asked, and passed."""

from types import SimpleNamespace
from typing import Any

import pytest

from hotfire.plugin.session import Certification
from hotfire.record.events import Judged, Planned, PlannedCheck
from hotfire.words import Blame, Gate, Outcome, Reason

EARLY = {"capacity": "test_10_preflight", "feasible": "test_10_preflight", "own": "test_15_own"}


def unasked(*judged: Judged, gate: Gate = Gate.REQUIRED) -> list[str]:
    checks = [PlannedCheck(id=f"a.{name}", suite=suite, question="Q.", gate=gate) for name, suite in EARLY.items()]
    late = PlannedCheck(id="a.late", suite="test_20_deploy", question="Q.")
    entries = [SimpleNamespace(event=event) for event in (Planned(checks=(*checks, late)), *judged)]
    run: Any = SimpleNamespace(recorder=SimpleNamespace(entries=entries))
    return Certification._unasked(run, run)


def passed(name: str) -> Judged:
    return Judged(check=f"a.{name}", outcome=Outcome.PASS)


def test_once_each_has_passed_it_may() -> None:
    assert unasked(*map(passed, EARLY)) == []


def test_where_nothing_was_asked_it_may_not() -> None:
    """As after an error at collection: the session ends, and no check has said a word."""
    assert unasked() == ["a.capacity", "a.feasible", "a.own"]
    assert unasked(gate=Gate.ADVISORY) == []


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INVALID])
def test_one_that_did_not_pass_is_enough(outcome: Outcome) -> None:
    failed = Judged(check="a.own", outcome=outcome, reason=Reason.BREACH, blame=Blame.CANDIDATE, message="m")
    assert unasked(passed("capacity"), passed("feasible"), failed) == ["a.own"]

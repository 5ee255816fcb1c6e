"""Rehearsal: does the way back work before it is needed, and the candidate serve again after it?"""

from hotfire.check import Evidence, check


@check(
    "rollback.rehearsed",
    needs=Evidence("proof-point"),
    blames="harness",
    row="rollback procedure",
    when="rollback.rehearse",
    consent="rehearse",
)
def test_the_way_back_was_gone(rehearsal):
    """What was there before the candidate is back, proven in every point and in the declared time."""
    assert rehearsal.unproven() == []


@check(
    "rollback.returns",
    needs=Evidence("answer"),
    row="rollback procedure",
    when="rollback.rehearse",
    consent="rehearse",
)
def test_the_candidate_serves_again(rehearsal, scenario):
    """Deployed once more, the candidate alone is behind its Service, ready in the declared time, and answers."""
    assert rehearsal.not_serving_again(within=scenario.startup.ready_within) == []

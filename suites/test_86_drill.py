"""Drill: is nothing of the candidate left once it is taken back, and does it serve again from there?"""

from hotfire.check import Evidence, check


@check(
    "drill.way-back",
    needs=Evidence("proof-point"),
    blames="harness",
    row="rollback procedure",
    when="drilled",
    consent="drill",
)
def test_what_was_there_before_is_back(drill):
    """What the run made is gone (promote: what served before is back), proven in every point and in the declared time."""
    assert drill.unproven() == []


@check("drill.returns", needs=Evidence("answer"), row="rollback procedure", when="drilled", consent="drill")
def test_the_candidate_serves_again(drill, scenario):
    """Deployed once more, the candidate alone is behind its Service, ready in the declared time, and answers."""
    assert drill.not_serving_again(within=scenario.startup.ready_within) == []

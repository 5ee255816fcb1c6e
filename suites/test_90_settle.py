"""Settle: is what is there now exactly old or exactly new, and was it proved?"""

from hotfire.check import Evidence, check


@check("settle.restored", needs=Evidence("proof-point"), blames="harness", row="rollback procedure")
def test_the_end_is_exactly_old_or_exactly_new(settled):
    """Each point of the proof is proven or was known beforehand not to apply."""
    assert settled.unproven() == []


@check("settle.within", needs=Evidence("time"), blames="platform", row="rollback procedure")
def test_it_was_there_in_time(settled, scenario):
    """From the decision to the proven end in the declared time."""
    assert settled.seconds() <= scenario.rollback.within

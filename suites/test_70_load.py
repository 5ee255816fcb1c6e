"""Load: does it hold its objectives under the declared load, and could the client tell?"""

from hotfire.check import Evidence, check


@check("load.client", needs=Evidence("request"), blames="harness", when="load", consent="load")
def test_the_client_was_not_the_bottleneck(load):
    """The load client's own lateness, CPU and steal stayed within bounds; else no figure of it counts."""
    assert load.client_faults() == []


@check("load.delivered", needs=Evidence("request"), blames="harness", when="load", consent="load")
def test_every_planned_request_was_accounted_for(load):
    """Each request of the plan was sent or is said to be missing, and its sample was kept."""
    assert load.unaccounted() == []


@check("load.slo", needs=Evidence("request"), per="slos", consent="load")
def test_the_objective_holds(load, slo):
    """The bound on the share of bad requests is within the objective at the stated confidence."""
    assert load.breaches(slo) == []


@check("load.regression", needs=Evidence("certified-run", at_least=3), per="compared", consent="load")
def test_it_is_not_slower_than_what_was_certified(load, slo):
    """The percentile is not above that of earlier certified runs by more than the margin, their own noise allowed for."""
    assert load.regressions(slo) == []


@check("load.stall", needs=Evidence("request"), when="load", consent="load")
def test_the_target_never_fell_silent(load, scenario):
    """No time with requests in flight and no byte from the target was longer than the limit."""
    assert load.silences(scenario.stall.max) == []

"""Preflight: can this run go there at all, and back again? Touches nothing."""

from hotfire.check import Evidence, check


@check("preflight.rights", needs=Evidence("right"), blames="platform")
def test_the_run_holds_every_right_it_needs(preflight):
    """The run's identity may do everything that the way there and the way back need."""
    assert preflight.missing_rights() == []


@check("preflight.owner", needs=Evidence("workload"), blames="platform")
def test_nobody_else_deploys_the_workload(preflight):
    """No Helm release, Argo CD or Flux would re-apply its own version behind the run."""
    assert preflight.other_owners() == []


@check("preflight.capacity", needs=Evidence("workload"), blames="platform")
def test_the_candidate_fits(preflight):
    """Nodes and quotas have room for the candidate beside all that must keep running."""
    assert preflight.lacking_for_the_way_there() == []


@check("rollback.feasible", needs=Evidence("workload"), blames="platform", row="rollback procedure")
def test_the_way_back_is_open(preflight):
    """What serves now is known by digest, and nodes and quotas have room for it to return."""
    assert preflight.lacking_for_the_way_back() == []


@check("preflight.live-load", needs=Evidence("workload"), blames="platform", when="capped_by_users")
def test_the_load_is_small_beside_what_users_ask(preflight):
    """Where users are served, the load's highest rate is at most `load.live_cap` of what they ask of the baseline now."""
    assert preflight.over_the_live_cap() == []

"""Users: did those who were served meanwhile find what the objectives promise?"""

from hotfire.check import Evidence, check


@check("rollout.users", needs=Evidence("user-request"), per="guarded")
def test_users_requests_burn_no_objective(counted):
    """By the pods' own counters, since the candidate serves: no objective fails beyond doubt, and users were there."""
    assert counted.burnt() == []

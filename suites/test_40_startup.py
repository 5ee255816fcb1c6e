"""Startup: does it start in time, and is it really the candidate that started?"""

from hotfire.check import Evidence, check


@check("startup.within", needs=Evidence("ready-pod"), row="model readiness checks")
def test_every_pod_is_ready_in_time(candidate, scenario):
    """Each pod passes from scheduled over pulled and started to ready within the declared time."""
    assert candidate.pods.not_ready(within=scenario.startup.ready_within) == []


@check("startup.restarts", needs=Evidence("container", per="serving-pod"), row="runtime health checks")
def test_no_container_restarted_more_than_declared(candidate, scenario):
    """No container needed more restarts to come up than the scenario allows."""
    assert candidate.pods.restarted_more_than(scenario.startup.restarts) == []


@check("startup.population", needs=Evidence("serving-pod"))
def test_only_pods_of_this_rollout_serve(candidate):
    """Each endpoint is a pod of this generation with the asked image digest; an older one is never taken for it."""
    assert candidate.strangers() == []

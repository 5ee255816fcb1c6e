"""Scheduling: did every pod land where it must, with the devices it asked for?"""

from hotfire.check import Evidence, check


@check("scheduling.within", needs=Evidence("serving-pod"), row="GPU scheduling and node affinity", when="scheduling")
def test_every_pod_was_scheduled_in_time(candidate, scenario):
    """Each pod has a node within the declared time, or it is known that none can ever fit it."""
    assert candidate.pods.unscheduled(within=scenario.scheduling.within) == []


@check(
    "scheduling.devices",
    needs=Evidence("device-grant", per="serving-pod"),
    row="GPU scheduling and node affinity",
    when="scheduling.devices",
)
def test_every_pod_got_its_devices(candidate, scenario):
    """Each pod was granted exactly the devices the scenario declares."""
    assert candidate.pods.granted() == candidate.pods.each(scenario.scheduling.devices)


@check(
    "scheduling.nodes",
    needs=Evidence("node", per="serving-pod"),
    row="GPU scheduling and node affinity",
    when="scheduling.nodes",
)
def test_every_pod_is_on_a_declared_node(candidate, scenario):
    """Each pod runs on a node that carries the declared labels."""
    assert candidate.pods.on_other_nodes_than(scenario.scheduling.nodes) == []


@check(
    "scheduling.tolerations",
    needs=Evidence("toleration", per="serving-pod"),
    row="taints and tolerations",
    when="scheduling.tolerates",
)
def test_every_pod_tolerates_what_is_declared(candidate, scenario):
    """Each pod carries the declared tolerations, and each node it is on carries the taints they are for."""
    assert candidate.pods.without_tolerations(scenario.scheduling.tolerates) == []


@check(
    "scheduling.isolation",
    needs=Evidence("probe-pod"),
    blames="platform",
    row="taints and tolerations",
    when="scheduling.tolerates",
)
def test_a_pod_without_the_toleration_is_kept_out(candidate, scenario):
    """A probe pod like the candidate's, but for the tolerations, is not admitted to the candidate's nodes."""
    assert candidate.nodes_open_to_intolerant_pods(scenario.scheduling.tolerates) == []

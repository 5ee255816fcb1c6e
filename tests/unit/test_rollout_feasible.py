"""A rollout played through on paper: there, and back again."""

from dataclasses import replace

import pytest

from hotfire.errors import Unjudged
from hotfire.plugin.nouns.preflight import _lacking
from hotfire.rollout.feasible import Change, Room, contested, steps, way_back, way_there
from hotfire.rollout.job import pod_on_paper

GPU = "nvidia.com/gpu"


def node(name, gpus, cpu="4"):
    return {
        "metadata": {"name": name, "labels": {"accelerator": "gpu"}},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110", GPU: str(gpus)}},
    }


def deployment(replicas, surge=None, unavailable=None, gpus=1, mark="new", **spec):
    limits = {GPU: str(gpus)} if gpus else {"cpu": "1"}
    template = {
        "metadata": {"labels": {"app": "llama"}},
        "spec": {"containers": [{"name": "server", "image": mark, "resources": {"limits": limits}}]},
    }
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {key: value for key, value in rolling.items() if value is not None}}
    body = {"replicas": replicas, "strategy": strategy, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "llama", "namespace": "ns"}, "spec": body}


def pod(number, on, of=None, ready="True", digest="sha256:1", **meta):
    state = {"name": "server", "imageID": f"engine@{digest}" if digest else "", "state": {"running": {}}}
    return {
        "metadata": {"name": f"llama-{number}", "uid": f"u{number}", "namespace": "ns", **meta},
        "spec": {**(of or deployment(1))["spec"]["template"]["spec"], "nodeName": on},
        "status": {"phase": "Running", "containerStatuses": [state], "conditions": [{"type": "Ready", "status": ready}]},
    }


def room(after, before=None, pods=(), nodes=(), others=(), quotas=()):
    return Room([Change(after, before, pods)], nodes, [*pods, *others], quotas)


def test_an_empty_namespace_with_room_is_feasible_both_ways():
    found = room(deployment(2), nodes=[node("a", 2)])
    assert (way_there(found), way_back(found)) == ([], [])


def test_a_surge_on_full_gpus_is_refused_with_the_sum():
    """One replica: maxSurge 25 % rounds up to 1, maxUnavailable down to 0; the new pod waits for ever (LLMKube#192)."""
    old = deployment(1, mark="old")
    (line,) = way_there(room(deployment(1), old, [pod(1, "a")], [node("a", 1)]))
    assert "0 of 1 new pods beside 1 old ones (surge 1, unavailable 0)" in line and f"1 {GPU}" in line and "1 full in" in line


def test_delete_then_create_needs_no_spare_gpu():
    found = room(deployment(1, 0, 1), deployment(1, 0, 1, mark="old"), [pod(1, "a")], [node("a", 1)])
    assert (way_there(found), way_back(found)) == ([], [])


def test_the_way_back_is_judged_by_the_baselines_own_strategy():
    """There by delete-then-create; back the old Deployment surges on GPUs that the candidate holds."""
    found = room(deployment(1, 0, 1), deployment(1, mark="old"), [pod(1, "a")], [node("a", 1)])
    assert way_there(found) == []
    assert len(way_back(found)) == 1 and "on the way back: stuck" in way_back(found)[0]


def test_a_candidate_that_asks_for_more_devices_than_a_node_has_never_fits():
    (line,) = way_there(room(deployment(1, gpus=4), nodes=[node("a", 2), node("b", 2)]))
    assert "2 too small in nvidia.com/gpu" in line


def test_a_terminating_pod_counts_until_it_is_gone():
    leaving = pod(1, "a", deletionTimestamp="2026-01-01T00:00:00Z")
    found = room(deployment(1, 0, 1), deployment(1, 0, 1, mark="old"), [leaving], [node("a", 1)])
    assert len(way_there(found)) == 1


def test_pods_of_others_count():
    other = pod(9, "a", namespace="elsewhere")
    assert way_there(room(deployment(1), nodes=[node("a", 1)], others=[other])) != []


def test_a_quota_is_played_through_with_its_surge():
    quota = {
        "metadata": {"name": "team", "namespace": "ns"},
        "spec": {},
        "status": {"hard": {f"requests.{GPU}": "2"}, "used": {f"requests.{GPU}": "2"}},
    }
    pods = [pod(1, "a"), pod(2, "a")]
    (line,) = way_there(room(deployment(2, 1, 0), deployment(2, 1, 0), pods, [node("a", 8)], quotas=[quota]))
    assert "quota team: requests.nvidia.com/gpu 2 used + 1 > 2" in line
    assert way_there(room(deployment(2, 0, 1), deployment(2, 0, 1), pods, [node("a", 8)], quotas=[quota])) == []


def test_the_watchdogs_pod_takes_its_room_first():
    quota = {
        "metadata": {"name": "few", "namespace": "ns"},
        "spec": {},
        "status": {"hard": {"pods": "1"}, "used": {"pods": "0"}},
    }
    found = Room([Change(deployment(1), None)], [node("a", 1)], [], [quota], [pod_on_paper("ns")])
    (line,) = way_there(found)
    assert "stuck at 0 of 1 new pods" in line and "quota few: pods 1 used + 1 > 1" in line
    assert way_there(replace(found, own=[pod_on_paper("elsewhere")])) == []  # a quota counts its own namespace only
    assert way_there(replace(found, own=())) == []


def test_a_watchdog_without_room_is_said_before_anything_changes():
    found = Room([Change(deployment(1, gpus=0), None)], [node("a", 1, cpu="1050m")], [], (), [pod_on_paper("ns")])
    assert [line.partition(":")[0] for line in way_there(found)] == ["deployment/llama"]  # the candidate finds it full
    assert "hotfire-watchdog, hotfire's own pod: no room for it" in way_there(replace(found, nodes=[node("a", 1, "50m")]))[0]


def test_devices_are_contested_where_pods_of_other_namespaces_were_not_seen():
    """Whichever way asks for them; CPU is not named, nor a device that no node has."""
    there, back = deployment(1), deployment(1, gpus=0)
    for after, before in ((there, None), (there, back), (back, there)):
        assert contested(replace(room(after, before, nodes=[node("a", 1)]), whole=False)) == [GPU]
        assert contested(room(after, before, nodes=[node("a", 1)])) == []
    assert contested(replace(room(back, back, nodes=[node("a", 1)]), whole=False)) == []
    assert contested(replace(room(there, nodes=[node("a", 0)]), whole=False)) == []


def mounting(workload, **of_pod):
    """It with the claim `models` among its volumes."""
    template = workload["spec"]["template"]
    volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]
    spec = {**workload["spec"], "template": {**template, "spec": {**template["spec"], "volumes": volumes, **of_pod}}}
    return {**workload, "spec": spec}


def claimed(mode, after, before, *on, volume=None):
    """A room with two nodes and the claim, mounted by a pod of `before` on each of `on`."""
    nodes = [{**node(name, 9), "metadata": {"name": name, "labels": {"host": name}}} for name in ("a", "b")]
    pods = [pod(number, name, before) for number, name in enumerate(on)]
    return replace(room(after, before, pods, nodes), claims={"models": ({"spec": {"accessModes": [mode]}}, volume)})


def at_a():
    """A volume that can be reached from node a alone."""
    terms = [{"matchExpressions": [{"key": "host", "operator": "In", "values": ["a"]}]}]
    return {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}}


ONE, POD = "ReadWriteOnce", "ReadWriteOncePod"
SURGES, SWAPS, PINNED = (
    mounting(deployment(1)),
    mounting(deployment(1, 0, 1)),
    mounting(deployment(1), nodeSelector={"host": "a"}),
)


@pytest.mark.parametrize(
    ("found", "there", "back"),
    [
        (claimed(ONE, SURGES, SURGES, "a"), 1, 1),
        (claimed(ONE, SWAPS, SURGES, "a"), 0, 1),
        (claimed(ONE, SURGES, SWAPS, "a"), 1, 0),
        (claimed(ONE, PINNED, PINNED, "a"), 0, 0),
        (claimed(ONE, PINNED, SWAPS, "b"), 1, 0),
        (claimed(ONE, SURGES, SURGES, "a", volume=at_a()), 0, 0),
        (claimed(POD, PINNED, PINNED, "a"), 1, 1),
        (claimed(POD, SWAPS, SWAPS, "a"), 0, 0),
        (claimed("ReadWriteMany", SURGES, SURGES, "a"), 0, 0),
        (claimed(ONE, SURGES, SURGES), 0, 1),
        (claimed(ONE, SURGES, deployment(1), "a"), 0, 0),
        (claimed(ONE, mounting(deployment(2)), mounting(deployment(2)), "a", "b"), 0, 0),
    ],
)
def test_a_surge_does_not_mount_a_claim_beside_the_old_pods(found, there, back):
    """Unless all land on one node, its volume can be reached from one alone, or pods of two nodes have it already."""
    lines = [line for line in (*way_there(found), "|", *way_back(found)) if "claim" in line or line == "|"]
    assert (lines.index("|"), len(lines) - lines.index("|") - 1) == (there, back)


def test_a_claim_of_one_node_is_refused_with_the_sum():
    said = "deployment/llama: a surge of 1 beside 1 old pods would mount claim models (ReadWriteOnce), on a or b"
    assert way_there(claimed(ONE, SURGES, SURGES, "a")) == [f"{said}: say `strategy: {{type: Recreate}}`"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ready": "False"}, "0 of 1 pods serve now"),
        ({"digest": ""}, "no image digest"),
    ],
)
def test_what_does_not_serve_is_no_last_known_good(change, said):
    (line,) = way_back(room(deployment(1, 0, 1), deployment(1, 0, 1), [pod(1, "a", **change)], [node("a", 1)]))
    assert said in line


def test_what_nobody_updates_is_no_baseline_to_return_to():
    old = {**deployment(1, updateStrategy={"type": "OnDelete"}), "kind": "StatefulSet"}
    found = room({**deployment(1), "kind": "StatefulSet"}, old, [pod(1, "a")], [node("a", 1)])
    assert way_there(found) == [] and "statefulset/llama is updated OnDelete" in way_back(found)[0]


def test_room_that_nobody_can_count_is_never_room():
    found = room(deployment(1), nodes=[node("a", 1)])
    assert _lacking(found, []) == [] and _lacking(replace(found, unplayed=["x/y"]), ["no GPU"]) == ["no GPU"]
    with pytest.raises(Unjudged, match="x/y: how many of its pods are of which template is not known"):
        _lacking(replace(found, unplayed=["x/y"]), [])


def test_a_paused_deployment_is_refused_both_ways():
    found = room(deployment(1, 0, 1), deployment(1, 0, 1, paused=True), [pod(1, "a")], [node("a", 1)])
    assert "is paused" in way_there(found)[0] and "is paused" in way_back(found)[0]


@pytest.mark.parametrize(
    ("surge", "unavailable", "want", "expected"),
    [(None, None, 1, (1, 0)), (None, None, 4, (1, 1)), ("50%", "0%", 3, (2, 0)), (0, 0, 2, (0, 1)), (2, 1, 5, (2, 1))],
)
def test_steps_round_as_the_controller_does(surge, unavailable, want, expected):
    assert steps(deployment(want, surge, unavailable), want) == expected


def test_recreate_and_statefulsets_take_no_room_beside_the_old():
    recreate = deployment(2)
    recreate["spec"]["strategy"] = {"type": "Recreate"}
    assert steps(recreate, 2) == (0, 2) and steps({**recreate, "kind": "StatefulSet"}, 2) == (0, 1)
    assert way_there(room(recreate, recreate, [pod(1, "a"), pod(2, "a")], [node("a", 2)])) == []

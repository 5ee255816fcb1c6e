"""The Role that `hotfire rbac` prints is enough for a run, for its way back, and for every command after it."""

from collections.abc import Iterator
from typing import Any

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Unjudged
from hotfire.kube.client import Cluster, Forbidden, Object, Ref
from hotfire.kube.wait import pause
from hotfire.plugin.nouns.preflight import Preflight
from hotfire.rollout.rbac import RUNNER, rbac
from hotfire.rollout.rights import rights
from hotfire.rollout.rollout import Rollout
from hotfire.rollout.status import describe
from hotfire.rollout.sweep import sweep
from hotfire.rollout.takeover import abort, resume
from hotfire.scenario.loader import load
from hotfire.scenario.model import Located
from hotfire.words import Decision, State, Verdict
from tests.planted_run import Ground, planted_suite

GPU = "example.com/gpu"
PERSON = {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
MORE = {"mode": "promote", "users": "none"}


@pytest.fixture
def granted(ground: Ground, reader: Cluster) -> Iterator[Located]:
    """The scenario; `reader` has what the owner would apply for its run, and nothing else."""
    ground.plant(planted_suite(), MORE)
    located, beyond = load(ground.folder / "scenario.yaml"), list[Object]()
    for obj in rbac(located, ground.namespace, RUNNER):
        if obj["kind"] != "ServiceAccount":
            bound: Object = {"subjects": [PERSON]} if "subjects" in obj else {}
            made = ground.cluster.create({**obj, **bound})
            beyond += [] if "namespace" in made["metadata"] else [made]
    right = rights(located)[0]
    while not reader.can(right.verb, right.resource, group=right.group, namespace=ground.namespace):
        pause(0.1)
    yield located
    for made in beyond:
        ground.cluster.delete(Ref.of(made), uid=made["metadata"]["uid"])


def test_with_the_printed_role_a_whole_run_comes_to_its_decision(control_plane, ground: Ground, granted) -> None:
    ground.kubeconfig = control_plane.kubeconfig("reader")
    ended = ground.run()
    assert ended.decided[0] == "CONFIRM" and ground.ended_well, ended.output


def test_with_the_printed_role_a_run_changes_restores_and_leaves_nothing(ground: Ground, reader: Cluster, granted) -> None:
    rollout = Rollout.open(reader, granted, ground.namespace, "run-a", emit=lambda event: None)
    rollout.arm(can_ask=False)
    rollout.apply()
    ending = rollout.settle(Decision.ROLL_BACK, "a gate failed")
    rollout.close(Verdict.NO_GO)
    assert (ending.state, ending.unproven) == (State.RESTORED, []) and ground.ended_well
    assert sweep(reader, ground.namespace, 0, tell=lambda line: None) == []


@pytest.mark.parametrize("command", [abort, resume])
def test_with_the_printed_role_a_dead_run_is_brought_to_its_end(ground: Ground, reader: Cluster, granted, command) -> None:
    rollout = Rollout.open(reader, granted, ground.namespace, "run-a", emit=lambda event: None)
    rollout.arm(can_ask=False)
    rollout.apply()
    rollout.lease._stop.set()
    assert "run-a is at it" in describe(reader, ground.namespace)[0]
    ending = command(reader, ground.namespace, tell=lambda line: None)
    assert (ending.state, ending.unproven) == (State.RESTORED, []) and ground.ended_well
    assert ground.cluster.find(Ref("v1", "Service", ground.namespace, "tiny")) is None


@pytest.fixture
def one_gpu(ground: Ground) -> Iterator[Object]:
    """A node whose only device a pod of another namespace holds."""
    name, server = f"n-{ground.namespace}", {"name": "a", "image": "i", "resources": {"limits": {GPU: "1"}}}
    node = ground.cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    free = {"allocatable": {GPU: "1", "cpu": "1", "memory": "1Gi", "pods": "9"}, "capacity": {}}
    node = ground.cluster.replace({**node, "spec": {}})  # without the taint that a node begins with
    ground.cluster.replace({**node, "status": free}, subresource="status")
    meta = {"name": name, "namespace": "default"}
    pod = ground.cluster.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": name, "containers": [server]}}
    )
    yield server
    ground.cluster.delete(Ref.of(pod), uid=pod["metadata"]["uid"], grace=0)
    ground.cluster.delete(Ref.of(node), uid=node["metadata"]["uid"])


def lacking(cluster: Cluster, ground: Ground, located: Located, gpu: Object) -> tuple[list[str], list[Any]]:
    """The lines of preflight.capacity for a candidate that asks for the device, and its evidence."""
    seen: list[Any] = []
    service, tiny = located.objects
    spec = {**tiny["spec"], "template": {**tiny["spec"]["template"], "spec": {"containers": [gpu]}}}  # type: ignore[dict-item,index]
    asking = located.model_copy(update={"objects": (service, {**tiny, "spec": spec})})
    with running("a.check", CheckSpec("a.check", Evidence("room")), seen.append):
        return list(Preflight(cluster, asking, ground.namespace).lacking_for_the_way_there()), [one.observed for one in seen]


def test_with_the_printed_role_devices_of_others_and_quotas_count(ground: Ground, reader: Cluster, granted, one_gpu) -> None:
    lines, seen = lacking(reader, ground, granted, one_gpu)
    assert len(lines) == 1 and f"1 full in {GPU}" in lines[0] and "counted: pods of all namespaces" in seen
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": ground.namespace}}
    made = ground.cluster.create({**quota, "spec": {"hard": {"pods": "0"}}})
    ground.cluster.replace({**made, "status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}, subresource="status")
    assert "quota q: pods 0 used + 1 > 0" in lacking(reader, ground, granted, one_gpu)[0][0]


def test_where_others_may_not_be_seen_free_devices_are_not_judged(ground: Ground, granted, one_gpu, monkeypatch) -> None:
    everywhere = ground.cluster.list

    def at_home(api_version: str, kind: str, namespace: str = "", **more: str) -> list[Object]:
        if kind == "Pod" and not namespace:
            raise Forbidden(403, "Forbidden", "list Pod: not cluster-wide")
        return everywhere(api_version, kind, namespace, **more)

    monkeypatch.setattr(ground.cluster, "list", at_home)
    with pytest.raises(Unjudged, match=f"how many {GPU} are free is not known"):
        lacking(ground.cluster, ground, granted, one_gpu)
    lines, seen = lacking(ground.cluster, ground, granted, {**one_gpu, "resources": {}})
    assert lines == [] and "counted: pods of this one, for others may not be listed" in seen

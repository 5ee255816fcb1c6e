"""A witness confirms what happened to this target in this window, and nothing else. The pods' status is written here."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hotfire.errors import Unjudged
from hotfire.faults import FAMILIES
from hotfire.faults.family import Target
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.words import Effect

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "11111111-2222-3333-4444-555555555555"}
RUNNING: Object = {"name": "server", "ready": True, "restartCount": 0, "image": "i", "imageID": "i", "containerID": "c://one"}


def pod(cluster: Cluster, namespace: str, name: str, **status: Any) -> Object:
    """A pod owned by a ReplicaSet, with the status of its only container as given."""
    container = {"name": "server", "image": "registry.example/x@sha256:" + "0" * 64}
    meta = {"name": name, "namespace": namespace, "ownerReferences": [{**OWNER, "controller": True}]}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}})
    return set_status(cluster, namespace, name, state={"running": {"startedAt": stamp(-60)}}, **status)


def set_status(cluster: Cluster, namespace: str, name: str, **status: Any) -> Object:
    live = cluster.get(Ref("v1", "Pod", namespace, name))
    live["status"] = {"phase": "Running", "containerStatuses": [{**RUNNING, **status}]}
    return cluster.replace(live, subresource="status")


def stamp(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def died(reason: str, code: int, seconds: float, container: str = "c://one") -> Object:
    return {"terminated": {"reason": reason, "exitCode": code, "finishedAt": stamp(seconds), "containerID": container}}


@pytest.mark.parametrize(
    ("last", "effect"),
    [
        (("OOMKilled", 137, 1), Effect.CONFIRMED),
        (("OOMKilled", 137, -600), Effect.STALE),
        (("Error", 137, 1), Effect.OTHER_CAUSE),
        (("OOMKilled", 1, 1), Effect.OTHER_CAUSE),
        (("OOMKilled", 137, 1, "c://before"), Effect.NO_EFFECT),
        ((), Effect.NO_EFFECT),
    ],
    ids=["oom in the window", "oom before it", "killed, not oom", "relabelled exit", "another container", "nothing"],
)
def test_only_a_fresh_oom_of_this_very_container_is_confirmed(
    cluster: Cluster, namespace: str, last: tuple[Any, ...], effect: Effect
) -> None:
    target = Target.of(pod(cluster, namespace, "web-a"))
    since, ended = datetime.now(UTC), died(*last) if last else {}
    set_status(cluster, namespace, "web-a", restartCount=1, containerID="c://two", lastState=ended, state={"running": {}})
    assert FAMILIES["oom"].witness(cluster, target, since).effect is effect


def test_a_pod_that_vanished_is_no_oom(cluster: Cluster, namespace: str) -> None:
    target = Target.of(pod(cluster, namespace, "web-a"))
    cluster.delete(Ref("v1", "Pod", namespace, "web-a"), uid=target.uid, grace=0)
    assert FAMILIES["oom"].witness(cluster, target, datetime.now(UTC)).effect is Effect.OTHER_CAUSE


def test_a_killed_pod_counts_only_with_a_successor_by_the_same_controller(cluster: Cluster, namespace: str) -> None:
    kill, target, since = FAMILIES["kill"], Target.of(pod(cluster, namespace, "web-a")), cluster.server_time()
    assert kill.witness(cluster, target, since).effect is Effect.NO_EFFECT
    kill.inject(cluster, target)  # of a pod without a node the object goes at once
    assert kill.witness(cluster, target, since).effect is Effect.NOT_APPLIED
    pod(cluster, namespace, "web-b")
    seen = kill.witness(cluster, target, since)
    assert seen.effect is Effect.CONFIRMED and seen.data["successor"] == "web-b"


def test_a_successor_from_before_the_window_is_not_one(cluster: Cluster, namespace: str) -> None:
    target = Target.of(pod(cluster, namespace, "web-a"))
    pod(cluster, namespace, "web-b")
    cluster.delete(Ref("v1", "Pod", namespace, "web-a"), uid=target.uid, grace=0)
    later = cluster.server_time() + timedelta(seconds=30)
    assert FAMILIES["kill"].witness(cluster, target, later).effect is Effect.NOT_APPLIED


def test_a_container_that_does_not_run_is_no_target(cluster: Cluster, namespace: str) -> None:
    dead = pod(cluster, namespace, "web-a")
    dead["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    with pytest.raises(Unjudged, match="no running container"):
        Target.of(dead)


def test_an_oom_without_a_memory_limit_is_refused(cluster: Cluster, namespace: str) -> None:
    live = pod(cluster, namespace, "web-a")
    assert "no memory limit" in FAMILIES["oom"].refusal(live, "server")
    live["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    assert FAMILIES["oom"].refusal(live, "server") == ""

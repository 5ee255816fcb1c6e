"""Deletions on a real API server, where something changes between what was read and what is deleted."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hotfire
from hotfire.journal.store import drop, fetch
from hotfire.kube.client import Cluster, Conflict, Object, Ref
from hotfire.kube.deletion import TRIES, delete_while
from hotfire.rollout import job
from hotfire.rollout.fence import fence
from hotfire.rollout.job import WATCHES
from hotfire.rollout.probes import RUN_LABEL, labelled
from hotfire.rollout.release import release
from hotfire.rollout.restore import Restore, anchor_ref
from hotfire.rollout.watchdog import lease_ref
from hotfire.words import State
from tests.dead_run import Scene, configmap, restored

RUN = {RUN_LABEL: "run-a"}
PODS = {"faults/kill.py", "rollout/probes.py"}  # are deleted by UID alone


def between(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Ref], object], times: int = 1
) -> list[str]:
    """Do `change` before each of the first deletions of objects of this name; the resourceVersions that deletions carried."""
    real, carried = cluster.delete, list[str]()

    def delete(ref: Ref, **more: Any) -> None:
        if ref.name == name:
            carried.append(str(more.get("resource_version")))
            if len(carried) <= times:
                change(ref)
        real(ref, **more)

    monkeypatch.setattr(cluster, "delete", delete)
    return carried


def unlabel(cluster: Cluster) -> Callable[[Ref], object]:
    """An operator's hand: it is no longer the run's."""

    def change(ref: Ref) -> object:
        live = cluster.get(ref)
        return cluster.replace({**live, "metadata": {**live["metadata"], "labels": {}}})

    return change


def progress(cluster: Cluster) -> Callable[[Ref], object]:
    """A controller's hand: the status alone."""
    count = iter(range(1, 100))
    return lambda ref: cluster.patch(ref, {"status": {"observedGeneration": next(count)}}, subresource="status")


def ours(live: Object) -> bool:
    return labelled(live, "run-a")


def deployment(namespace: str, name: str = "one") -> Object:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    meta = {"name": name, "namespace": namespace, "labels": dict(RUN)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


# -- one object -------------------------------------------------------------------------------------------------------


def test_what_is_as_it_was_read_goes_in_one_request(cluster, namespace, monkeypatch) -> None:
    made = cluster.create(configmap(namespace, "one", RUN))
    carried = between(cluster, monkeypatch, "one", lambda ref: None)
    assert delete_while(cluster, made, ours) and cluster.find(Ref.of(made)) is None
    assert carried == [made["metadata"]["resourceVersion"]]
    assert not delete_while(cluster, made, ours)  # gone


def test_what_is_no_longer_ours_since_it_was_read_stays(cluster, namespace, monkeypatch) -> None:
    made = cluster.create(configmap(namespace, "one", RUN))
    carried = between(cluster, monkeypatch, "one", unlabel(cluster))
    assert not delete_while(cluster, made, ours)
    assert cluster.find(Ref.of(made)) is not None and len(carried) == 1


def test_what_a_controller_wrote_the_status_of_goes_nevertheless(cluster, namespace, monkeypatch) -> None:
    made, asked = cluster.create(deployment(namespace)), list[None]()
    carried = between(cluster, monkeypatch, "one", progress(cluster), times=3)
    assert delete_while(cluster, made, ours, lambda: asked.append(None)) and cluster.find(Ref.of(made)) is None
    assert len(set(carried)) == len(carried) == len(asked) == 4  # the guard is asked before each try


def test_what_never_rests_is_given_up_and_stays(cluster, namespace, monkeypatch) -> None:
    made = cluster.create(deployment(namespace))
    carried = between(cluster, monkeypatch, "one", progress(cluster), times=TRIES)
    with pytest.raises(Conflict):
        delete_while(cluster, made, ours)
    assert cluster.find(Ref.of(made)) is not None and len(carried) == TRIES


def test_another_object_that_has_the_name_by_now_stays(cluster, namespace, monkeypatch) -> None:
    made = cluster.create(configmap(namespace, "one", RUN))

    def again(ref: Ref) -> None:
        Cluster.delete(cluster, ref, uid=made["metadata"]["uid"])
        cluster.create(configmap(namespace, "one", RUN))

    between(cluster, monkeypatch, "one", again)
    assert not delete_while(cluster, made, ours)
    assert cluster.get(Ref.of(made))["metadata"]["uid"] != made["metadata"]["uid"]


def test_a_pod_is_held_to_its_uid_alone(cluster, namespace, monkeypatch) -> None:
    meta = {"name": "one", "namespace": namespace, "labels": RUN}
    spec = {"containers": [{"name": "a", "image": "i"}]}
    made = cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    change = {"status": {"phase": "Running"}}
    carried = between(cluster, monkeypatch, "one", lambda ref: cluster.patch(ref, change, subresource="status"))
    assert delete_while(cluster, made) and carried == ["None"]


# -- whoever deletes --------------------------------------------------------------------------------------------------


def test_nobody_deletes_by_another_way() -> None:
    root = Path(hotfire.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("cluster.delete")
        if not any(word.arg == "dry_run" for word in node.keywords)
    }
    assert found == PODS | {"kube/deletion.py"}


def test_restoring_spares_what_an_operator_has_taken_for_his_own(scene, monkeypatch) -> None:
    between(scene.cluster, monkeypatch, "added", unlabel(scene.cluster))
    Restore(scene.journal, fetch(scene.journal), lambda: None).go()
    assert scene.batch == "8" and scene.added() is not None


def test_restoring_deletes_what_was_added_though_its_status_moves(scene, monkeypatch) -> None:
    made = scene.cluster.create(deployment(scene.namespace, "helper"))
    carried = between(scene.cluster, monkeypatch, "helper", progress(scene.cluster))
    Restore(scene.journal, fetch(scene.journal), lambda: None).go()
    assert restored(scene) and scene.cluster.find(Ref.of(made)) is None and len(carried) == 2


def test_after_confirming_what_an_operator_has_taken_for_his_own_stays(scene, monkeypatch) -> None:
    scene.journal.move(State.CONFIRMED, by="run-a", confirmed="head")
    made = scene.cluster.create(configmap(scene.namespace, "helper", RUN))
    between(scene.cluster, monkeypatch, "helper", unlabel(scene.cluster))
    release(scene.journal, lambda: None)
    assert scene.cluster.find(Ref.of(made)) is not None and scene.cluster.find(anchor_ref(scene.journal)) is None


def touch(cluster: Cluster) -> Callable[[Ref], object]:
    """Anybody's hand, that changes nothing of what was decided on."""
    return lambda ref: cluster.patch(ref, {"metadata": {"annotations": {"seen": "yes"}}})


def test_the_anchor_goes_by_what_was_read_of_it(scene, monkeypatch) -> None:
    anchor = anchor_ref(scene.journal)
    scene.journal.move(State.RESTORING, by="another")
    carried = between(scene.cluster, monkeypatch, anchor.name, touch(scene.cluster))
    fence(scene.journal, lambda: None)
    assert scene.cluster.find(anchor) is None and len(set(carried)) == 2 and "None" not in carried


def test_a_snapshot_that_is_no_longer_the_journals_stays(scene, monkeypatch) -> None:
    (part,) = [one for one in scene.cluster.list("v1", "ConfigMap", scene.namespace) if "part" in (one.get("data") or {})]

    def adopt(ref: Ref) -> None:
        live = scene.cluster.get(ref)
        scene.cluster.replace({**live, "metadata": {**live["metadata"], "ownerReferences": []}})

    between(scene.cluster, monkeypatch, part["metadata"]["name"], adopt)
    drop(scene.journal)
    assert scene.cluster.find(Ref.of(part)) is not None


def watchdogs(scene: Scene) -> tuple[Ref, Ref]:
    """Job and Lease of a watchdog that has let go."""
    spec = deployment(scene.namespace)["spec"]["template"]["spec"] | {"restartPolicy": "Never"}
    name = job.job_name("run-a")
    meta = {"name": name, "namespace": scene.namespace, "labels": {WATCHES: "run-a"}}
    made = scene.cluster.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": {"spec": spec}}}
    )
    lease = lease_ref(scene.namespace, scene.journal.ref.name)
    held = {"apiVersion": lease.api_version, "kind": lease.kind, "spec": {"holderIdentity": ""}}
    scene.cluster.create({**held, "metadata": {"name": lease.name, "namespace": lease.namespace}})
    return Ref.of(made), lease


def test_a_watchdogs_job_goes_though_its_status_moves_and_a_lease_that_another_took_stays(scene, monkeypatch) -> None:
    made, lease = watchdogs(scene)
    between(
        scene.cluster,
        monkeypatch,
        made.name,
        lambda ref: scene.cluster.patch(ref, {"status": {"active": 1}}, subresource="status"),
    )
    taken = {"spec": {"holderIdentity": "hotfire-watchdog-of-another"}}
    between(scene.cluster, monkeypatch, lease.name, lambda ref: scene.cluster.patch(ref, taken))
    job.remove(scene.journal)
    assert scene.cluster.find(made) is None and scene.cluster.find(lease) is not None

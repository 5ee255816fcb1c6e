"""Each of the twelve points is proven on a still life, and caught by exactly that point when it is made false.

A mutant is made before the first seven points are asked, or in the soak, before the last five: what is seen by an earlier
point of the same time is no mutant of its own.
"""

from dataclasses import replace

import pytest

from hotfire.errors import Breach, LeaseLost
from hotfire.journal.entries import DeleteAdded, FaultBegun, ReplacePods
from hotfire.journal.journal import Body, Journal
from hotfire.journal.lease import NotRenewed
from hotfire.journal.store import Stored, fingerprint, keep, new_key
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.rollout import proof
from hotfire.rollout.population import REVISION
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.proof import LAST, POINTS, RESTORED, SETTLED, Scene, applicable, judge
from hotfire.words import Mode, Proof

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LABELS = {"app": "llama", "pod-template-hash": "h1"}


class StillLife:
    """A Deployment with one pod that serves behind its Service, as controllers and a kubelet would leave it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        container = {
            "name": "server",
            "image": f"registry.example/engine@{DIGEST}",
            "resources": {"limits": {"nvidia.com/gpu": 1}},
        }
        self.spec = {"containers": [container], "nodeName": "gpu-1"}
        template = {"metadata": {"labels": {"app": "llama"}}, "spec": {"containers": [container]}}
        select = {"selector": {"matchLabels": {"app": "llama"}}}
        self.deployment = self.make("apps/v1", "Deployment", "llama", {"spec": {"replicas": 1, "template": template, **select}},
                                    annotations={REVISION: "1"})  # fmt: skip
        self.status(self.deployment, observedGeneration=1, replicas=1, updatedReplicas=1, readyReplicas=1)
        self.set = self.replica_set("llama-h1", "1")
        self.pod = self.make_pod("llama-h1-x", self.set, DIGEST)
        self.make("v1", "Service", "llama", {"spec": {"selector": {"app": "llama"}, "ports": [{"port": 80}]}})
        self.slice = self.make("discovery.k8s.io/v1", "EndpointSlice", "llama-1", self.endpoints(self.pod),
                               labels={"kubernetes.io/service-name": "llama"})  # fmt: skip
        self.settings = self.make("v1", "ConfigMap", "settings", {"data": {"BATCH": "8"}})
        self.token = self.make("v1", "Secret", "token", {"stringData": {"k": "v"}})
        self.scene = self.armed()

    def make(self, api_version: str, kind: str, name: str, body: Object, **meta: object) -> Object:
        meta |= {"name": name, "namespace": self.namespace}
        return self.cluster.create({"apiVersion": api_version, "kind": kind, "metadata": meta, **body})

    def status(self, obj: Object, **status: object) -> None:
        live = self.cluster.get(Ref.of(obj))
        self.cluster.replace({**live, "status": {**live.get("status", {}), **status}}, subresource="status")

    def replica_set(self, name: str, revision: str) -> Object:
        spec = self.deployment["spec"]
        body = {"spec": {"replicas": 1, "selector": spec["selector"], "template": spec["template"]}}
        return self.make("apps/v1", "ReplicaSet", name, body, annotations={REVISION: revision},
                         ownerReferences=[self.owner(self.deployment)])  # fmt: skip

    def owner(self, obj: Object) -> Object:
        meta = obj["metadata"]
        return {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }

    def make_pod(self, name: str, owner: Object | None, digest: str, labels: Object = LABELS) -> Object:
        owners = [self.owner(owner)] if owner else []
        pod = self.make("v1", "Pod", name, {"spec": self.spec}, labels=labels, ownerReferences=owners)
        self.vital(pod, digest, 0)
        return pod

    def vital(self, pod: Object, digest: str, restarts: int) -> None:
        state = {"name": "server", "ready": True, "restartCount": restarts, "containerID": f"containerd://c{restarts}",
                 "image": "engine", "imageID": f"engine@{digest}", "state": {"running": {}}}  # fmt: skip
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T00:00:00Z"}
        self.status(pod, phase="Running", containerStatuses=[state], conditions=[ready])

    def endpoints(self, *pods: Object) -> Object:
        found = [
            {"addresses": [f"198.18.9.{n}"], "conditions": {"ready": True},
             "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}}
            for n, pod in enumerate(pods, 1)
        ]  # fmt: skip
        return {"addressType": "IPv4", "endpoints": found, "ports": [{"port": 80}]}

    def armed(self) -> Scene:
        body = Body(run="run-a", namespace=self.namespace, mode=Mode.PROMOTE, workloads=("deployment/llama",),
                    services=("llama",), within_s=30)  # fmt: skip
        journal = Journal.open(self.cluster, self.namespace, body)
        key = new_key()
        refs = [Ref.of(self.deployment), Ref("v1", "Service", self.namespace, "llama"), Ref.of(self.settings)]
        stored = Stored([self.cluster.get(ref) for ref in refs], (), [fingerprint(self.token, key)], key)
        keep(journal, stored, images=(DIGEST,), templates={"deployment/llama": "h1"},
             not_applicable=applicable(stored, body.workloads, (DIGEST,), True))  # fmt: skip
        scene = Scene.of_old(journal, stored, lambda: "it answers", lambda: None)
        scene.soaked, scene.restored_s = proof.vitals(scene), 3.0
        return scene


def edit_settings(life: StillLife) -> None:
    live = life.cluster.get(Ref.of(life.settings))
    life.cluster.replace({**live, "data": {"BATCH": "9"}})


def other_image(life: StillLife) -> None:
    life.vital(life.pod, OTHER, 0)


def not_ready(life: StillLife) -> None:
    life.status(life.deployment, readyReplicas=0)


def candidate_pod_is_leaving(life: StillLife) -> None:
    other = life.replica_set("llama-h2", "2")
    meta = {"app": "llama", "pod-template-hash": "h2"}
    pod = life.make_pod("llama-h2-y", other, OTHER, meta)
    life.cluster.delete(Ref.of(pod), uid=pod["metadata"]["uid"], grace=60)


def rotated_secret(life: StillLife) -> None:
    live = life.cluster.get(Ref.of(life.token))
    life.cluster.replace({**live, "data": {"k": "bmV3"}})


def deaf_engine(life: StillLife) -> None:
    def ask() -> str:
        raise Breach("no token within 5 s")

    life.scene.probe = ask


def stranger_behind_the_service(life: StillLife) -> None:
    other = life.make_pod("canary", None, OTHER, {"app": "other"})
    live = life.cluster.get(Ref.of(life.slice))
    life.cluster.replace({**live, **life.endpoints(life.pod, other)})


def helper_left(life: StillLife) -> None:
    life.make("v1", "Service", "helper", {"spec": {"ports": [{"port": 1}]}}, labels={RUN_LABEL: "run-a"})


def open_fault(life: StillLife) -> None:
    life.scene.journal.record(FaultBegun(fault="freeze"))


def restarted_in_the_soak(life: StillLife) -> None:
    life.vital(life.pod, DIGEST, 1)


def candidate_holds_a_device(life: StillLife) -> None:
    ref = Ref("apps/v1", "Deployment", life.namespace, "extra")
    life.scene.journal.record(DeleteAdded.of(ref, labels={"app": "extra"}))
    life.make_pod("extra-z", None, OTHER, {"app": "extra"})


def pod_of_edited_configuration(life: StillLife) -> None:
    """It runs and serves, and was written down to be replaced."""
    life.scene.journal.record(ReplacePods.of(Ref.of(life.deployment), uids=(life.pod["metadata"]["uid"],)))


def too_late(life: StillLife) -> None:
    life.scene.restored_s = 31.0


MUTANTS = [
    ("target", other_image), ("landed", not_ready), ("population", candidate_pod_is_leaving),
    ("closure", edit_settings), ("closure", rotated_secret), ("function", deaf_engine),
    ("traffic", stranger_behind_the_service), ("residue", helper_left), ("residue", open_fault),
    ("stability", restarted_in_the_soak), ("devices", candidate_holds_a_device), ("durability", rotated_secret),
    ("idempotence", pod_of_edited_configuration), ("time", too_late),
]  # fmt: skip


@pytest.fixture
def life(cluster, namespace):
    return StillLife(cluster, namespace)


def test_a_still_life_is_proven_in_all_twelve_points(life):
    found = {point: judge(life.scene, point) for point in POINTS}
    assert len(POINTS) == 12 and [one for one in found.items() if one[1].result is not Proof.PROVEN] == []


@pytest.mark.parametrize(("point", "mutant"), MUTANTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_point_made_false_is_caught_by_that_point(life, point, mutant):
    mutant(life)
    asked = RESTORED if point in RESTORED else (*SETTLED, *LAST)
    found = {name: judge(life.scene, name) for name in asked}
    assert [name for name, one in found.items() if one.result is Proof.UNPROVEN] == [point], found
    assert len(found[point].evidence) > 10


def test_a_workload_of_the_manifests_that_serves_no_api_is_looked_at_like_the_others(life):
    """It was there before, so it is put back: its candidate's pods must be gone, its own must have landed."""
    labels, pod = {"app": "side"}, life.deployment["spec"]["template"]["spec"]
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    side = life.make("apps/v1", "Deployment", "side", {"spec": spec}, annotations={REVISION: "1"})
    stored = life.scene.stored
    scene = replace(life.scene, stored=replace(stored, objects=[*stored.objects, life.cluster.get(Ref.of(side))]))
    found = {point: judge(scene, point) for point in ("landed", "population", "traffic", "closure")}
    assert {point for point, one in found.items() if one.result is Proof.UNPROVEN} == {"landed", "population"}
    assert "deployment/side: its controller has not" in found["population"].evidence
    alone = applicable(Stored([side]), ("deployment/llama",), (DIGEST,), True)
    assert set(alone) == {"function"} and "deployment/side" not in scene.journal.body.workloads


def test_a_generation_that_no_controller_has_seen_is_no_landing(life):
    life.status(life.deployment, observedGeneration=0)
    assert judge(life.scene, "landed").result is Proof.UNPROVEN


@pytest.mark.parametrize("stops", [LeaseLost, NotRenewed])
def test_nobody_waits_for_a_workload_that_another_has_taken_over(life, stops: type[LeaseLost]) -> None:
    life.cluster.delete(Ref.of(life.pod), uid=life.pod["metadata"]["uid"])
    asked = []

    def guard() -> None:
        asked.append(1)
        raise stops("deleted")

    life.scene.guard = guard
    left = iter((9.0, 9.0, 9.0, 9.0, 0.0))
    if stops is NotRenewed:
        assert proof.eventually(life.scene, "population", lambda: next(left)).result is Proof.UNPROVEN and len(asked) == 2
    else:
        with pytest.raises(LeaseLost, match="deleted"):
            proof.eventually(life.scene, "population", lambda: next(left))


def test_a_candidate_that_was_applied_again_in_the_soak_is_seen_and_taken_back(life):
    edit_settings(life)
    by = life.cluster.get(Ref.of(life.settings))["metadata"]["managedFields"][-1]["manager"]
    assert f"after the soak, written by {by}: the way back is theirs" in judge(life.scene, "durability").evidence
    found = {name: judge(life.scene, name).result for name in ("durability", "idempotence", "closure")}
    assert found == {"durability": Proof.UNPROVEN, "idempotence": Proof.UNPROVEN, "closure": Proof.PROVEN}


def test_every_point_has_a_mutant():
    assert {point for point, _ in MUTANTS} == set(POINTS)


def test_evidence_never_holds_a_secret(life):
    rotated_secret(life)
    found = judge(life.scene, "closure")
    assert "token" in found.evidence and "bmV3" not in repr(found) and "djo=" not in repr(found)


def test_what_does_not_apply_was_said_before_the_deploy(life):
    empty = applicable(Stored([]), ("deployment/llama",), (), True)
    assert set(empty) == {"target", "stability", "function"} and all("absent" in reason for reason in empty.values())
    assert applicable(life.scene.stored, ("deployment/llama",), (DIGEST,), True) == {}

"""The whole closure: every kind of it is seen, fenced at a takeover, and as it was after a restore, whoever changed it."""

from copy import deepcopy
from pathlib import Path

import pytest

from hotfire.journal.entries import PutBack
from hotfire.journal.journal import Body, Journal
from hotfire.journal.store import Stored, fetch, keep
from hotfire.kube.client import ApiError, Cluster, Conflict, Object, Ref
from hotfire.kube.wait import pause
from hotfire.report.live import lines
from hotfire.rollout import closure as closures
from hotfire.rollout import proof
from hotfire.rollout.closure import closure
from hotfire.rollout.fence import LABEL, fence
from hotfire.rollout.restore import Restore
from hotfire.rollout.snapshot import take
from hotfire.scenario.model import Located, Scenario
from hotfire.words import Mode, Proof
from tests.neighbour import neighbour

comparer = neighbour("bench/comparer")

GATEWAY = "gateway.networking.k8s.io"
ROUTES: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": f"httproutes.{GATEWAY}",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
    },
    "spec": {
        "group": GATEWAY, "scope": "Namespaced",
        "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute", "listKind": "HTTPRouteList"},
        "versions": [{
            "name": "v1", "served": True, "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        }],
    },
}  # fmt: skip
LABELS = {"app": "llama"}
SELECT = {"matchLabels": LABELS}
POD = {
    "serviceAccountName": "server", "imagePullSecrets": [{"name": "pull"}],
    "containers": [{
        "name": "server", "image": "registry.example/engine@sha256:" + "a" * 64, "args": ["--old"],
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "token"}}],
    }],
    "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
}  # fmt: skip


def of(api_version: str, kind: str, name: str, **body: object) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body}


def around(kind: str) -> list[Object]:
    """Everything that a workload rests on and that points at it."""
    template = {"metadata": {"labels": LABELS}, "spec": POD}
    body = {"replicas": 2, "selector": SELECT, "template": template}
    body |= {"serviceName": "headless"} if kind == "StatefulSet" else {}
    target = {"apiVersion": "apps/v1", "kind": kind, "name": "llama"}
    backend = {"service": {"name": "llama", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    hosts = {"rules": [{"http": {"paths": paths}}], "tls": [{"secretName": "cert"}]}
    return [
        of("v1", "ServiceAccount", "server", automountServiceAccountToken=False, imagePullSecrets=[{"name": "registry"}]),
        of("v1", "Secret", "registry", stringData={"k": "pw"}),
        of("v1", "Secret", "cert", stringData={"k": "pem"}),
        of("v1", "Secret", "token", stringData={"k": "old"}),
        of("v1", "Secret", "pull", stringData={"k": "pw"}),
        of("v1", "ConfigMap", "settings", data={"BATCH": "8"}),
        of("v1", "PersistentVolumeClaim", "cache",
           spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        of("v1", "Service", "llama", spec={"selector": LABELS, "ports": [{"port": 80}]}),
        of("v1", "Service", "headless", spec={"selector": LABELS, "ports": [{"port": 80}], "clusterIP": "None"}),
        of("apps/v1", kind, "llama", spec=body),
        of("autoscaling/v2", "HorizontalPodAutoscaler", "llama", spec={"maxReplicas": 4, "scaleTargetRef": target}),
        of("policy/v1", "PodDisruptionBudget", "llama", spec={"minAvailable": 1, "selector": SELECT}),
        of("networking.k8s.io/v1", "NetworkPolicy", "llama", spec={"podSelector": SELECT, "policyTypes": ["Ingress"]}),
        of("networking.k8s.io/v1", "Ingress", "llama", spec=hosts),
        of(f"{GATEWAY}/v1", "HTTPRoute", "llama", spec={"rules": [{"backendRefs": [{"name": "llama", "port": 80}]}]}),
    ]  # fmt: skip


SECRETS = ("token", "pull", "registry", "cert")
APART = [  # in the same namespace, and nothing to this workload
    of("v1", "Service", "other", spec={"selector": {"app": "other"}, "ports": [{"port": 80}]}),
    of("v1", "Service", "by-hand", spec={"ports": [{"port": 80}]}),
    of("policy/v1", "PodDisruptionBudget", "other", spec={"minAvailable": 1, "selector": {"matchLabels": {"app": "other"}}}),
    of("v1", "ConfigMap", "other", data={"a": "b"}),
]
CHANGES = {  # kind -> what a stranger's hand does to it, beside a label and an annotation
    "ServiceAccount": {"automountServiceAccountToken": True},
    "ConfigMap": {"data": {"BATCH": "64", "MORE": "1"}},
    "Service": {"ports": [{"port": 8000, "name": "http"}], "sessionAffinity": "ClientIP"},
    "Deployment": {"replicas": 0, "paused": True, "minReadySeconds": 7},
    "StatefulSet": {"replicas": 0, "minReadySeconds": 7},
    "HorizontalPodAutoscaler": {"maxReplicas": 9},
    "PodDisruptionBudget": {"minAvailable": 0},
    "NetworkPolicy": {"policyTypes": ["Ingress", "Egress"]},
    "Ingress": {"rules": [{"host": "else.example"}]},
    "HTTPRoute": {"rules": []},
}


class Scene:
    """One workload with all that belongs to it, snapshot and journal of a run over it."""

    def __init__(self, cluster: Cluster, namespace: str, kind: str) -> None:
        self.cluster, self.namespace, self.kind = cluster, namespace, kind
        for obj in (*around(kind), *APART):
            cluster.create({**obj, "metadata": {**obj["metadata"], "namespace": namespace}})
        self.workload = f"{kind.lower()}/llama"
        serves = {"workload": self.workload, "service": "llama", "runtime": "tiny", "model": "m"}
        words = {"apiVersion": "hotfire/v1", "kind": "Scenario", "name": "a", "about": "a", "mode": "promote"}
        scenario = Scenario.model_validate({**words, "candidate": {"serves": [serves]}, "stand": {"namespace": namespace}})
        mine = tuple(obj for obj in around(kind) if obj["kind"] == kind)
        self.located = Located(scenario=scenario, path=Path("scenario.yaml"), objects=mine, digest="")
        body = Body(run="run-a", namespace=namespace, mode=Mode.PROMOTE, workloads=(self.workload,), services=("llama",), n=1)
        self.journal = Journal.open(cluster, namespace, body)
        keep(self.journal, take(cluster, self.located, namespace).stored())
        workload = cluster.get(Ref("apps/v1", kind, namespace, "llama"))
        self.journal.record(PutBack.of(Ref.of(workload), uid=workload["metadata"]["uid"]))
        self.before = [cluster.get(ref) for ref in closure(cluster, self.located, namespace)]

    @property
    def stored(self) -> Stored:
        return fetch(self.journal)

    def restore(self) -> Restore:
        back = Restore(self.journal, self.stored, lambda: None)
        back.go()
        return back

    def residual(self) -> list[str]:
        """By a judge that shares nothing with hotfire: content, and who owns which field."""
        pairs = [(obj, self.cluster.get(Ref.of(obj))) for obj in self.before]
        found = [line for old, new in pairs for line in comparer.differences(old, new)]
        return found + [f"{Ref.of(old)}: owners" for old, new in pairs if comparer.ownership(old) != comparer.ownership(new)]


@pytest.fixture(scope="module")
def routes(cluster: Cluster) -> None:
    """The server learns of HTTPRoutes; a kind takes a moment to be served."""
    if cluster.find(Ref.of({**ROUTES, "metadata": {"name": ROUTES["metadata"]["name"]}})) is None:
        cluster.create(ROUTES)
    probe = of(f"{GATEWAY}/v1", "HTTPRoute", "probe")
    for _ in range(100):
        try:
            cluster.create({**probe, "metadata": {"name": "probe", "namespace": "default"}}, dry_run=True)
            return
        except ApiError as error:
            seen = error
        pause(0.1)
    raise AssertionError(seen)


@pytest.fixture(params=["Deployment", "StatefulSet"])
def scene(request, routes, cluster, namespace):
    return Scene(cluster, namespace, request.param)


def change(obj: Object) -> Object:
    """The object after a stranger had it in hand."""
    new = deepcopy(obj)
    new["metadata"] |= {"labels": {"stranger": "yes"}, "annotations": {"stranger": "yes"}}
    new.get("spec", new).update(CHANGES[obj["kind"]])
    return new


def test_all_that_belongs_to_the_workload_is_in_the_closure_and_nothing_else(scene):
    found = {str(ref) for ref in closure(scene.cluster, scene.located, scene.namespace)}
    assert found == {f"{obj['kind'].lower()}/{obj['metadata']['name']}" for obj in around(scene.kind)}


def test_secrets_that_are_rested_on_are_known_by_identity_alone(scene):
    assert [obj for obj in scene.stored.objects if obj["kind"] == "Secret"] == []
    live = {name: scene.cluster.get(Ref("v1", "Secret", scene.namespace, name))["metadata"] for name in SECRETS}
    known = {one.name: (one.uid, one.resource_version) for one in scene.stored.rested}
    assert known == {name: (meta["uid"], meta["resourceVersion"]) for name, meta in live.items()}


def test_what_the_snapshot_does_not_hold_is_named_in_the_record_and_live(scene, monkeypatch):
    monkeypatch.setattr(closures, "POINTING", (*closures.POINTING, ("example.com/v9", "Gate")))
    event = take(scene.cluster, scene.located, scene.namespace).event()
    rested = {f"the values of secret/{name}: a change is seen, not undone" for name in SECRETS}
    named = {"the contents of persistentvolumeclaim/cache", "Gate of example.com/v9: the API server has no such kind"}
    assert set(event.left_out) == rested | named
    assert lines(event)[1:] == [f"  not in it: {line}" for line in event.left_out]


def test_nothing_is_left_of_a_change_of_every_kind(scene):
    changed = [obj for obj in scene.before if obj["kind"] in CHANGES]
    assert {obj["kind"] for obj in changed} >= CHANGES.keys() - {"Deployment", "StatefulSet"}
    for obj in changed:
        scene.cluster.replace(change(obj))
    assert len(scene.residual()) > 2 * len(changed)
    scene.restore()
    assert scene.residual() == [] and scene.restore().writes == []


def test_what_of_every_kind_was_deleted_is_made_again(scene):
    gone = [obj for obj in scene.before if obj["kind"] in CHANGES]
    for obj in gone:
        scene.cluster.delete(Ref.of(obj), uid=obj["metadata"]["uid"], grace=0)
    assert len([line for line in scene.restore().writes if line.startswith("recreated")]) == len(gone)
    assert [line for line in scene.residual() if "clusterIP" not in line] == []


def test_a_takeover_marks_every_object_of_the_closure_and_restoring_takes_the_marks_off(scene):
    stale = {Ref.of(obj): change(obj) for obj in scene.before if obj["kind"] in CHANGES}
    assert sorted(fence(scene.journal, lambda: None)) == sorted(map(str, stale))
    for write in stale.values():
        with pytest.raises(Conflict):
            scene.cluster.replace(write)
    assert {scene.cluster.get(ref)["metadata"]["labels"][LABEL] for ref in stale} == {"1"}
    scene.restore()
    assert scene.residual() == []


@pytest.mark.parametrize(
    ("before", "live", "after"),
    [(2, 4, 4), (2, 0, 2), (0, 3, 0)],
    ids=["moved by its autoscaler", "scaled to zero by hand", "was at zero, where an autoscaler rests"],
)
def test_replicas_are_the_autoscalers_where_it_acts_and_the_owners_at_zero(routes, cluster, namespace, before, live, after):
    scene = Scene(cluster, namespace, "Deployment")
    ref = Ref("apps/v1", "Deployment", namespace, "llama")

    def scale(count: int) -> None:
        cluster.replace({**(now := cluster.get(ref)), "spec": {**now["spec"], "replicas": count}})

    scale(before)
    keep(scene.journal, take(cluster, scene.located, namespace).stored())
    scale(live)
    scene.restore()
    assert cluster.get(ref)["spec"]["replicas"] == after
    assert proof.judge(proof.Scene.of_old(scene.journal, scene.stored, None, lambda: None), "closure").result is Proof.PROVEN

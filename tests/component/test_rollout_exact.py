"""Exact deploy and exact restore against a real API server; there is no controller, so every write is ours or the test's."""

import base64
import json
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest

from hotfire.errors import Breach, LeaseLost
from hotfire.journal.entries import ReplacePods
from hotfire.journal.journal import Body, Journal
from hotfire.journal.store import fetch, keep
from hotfire.kube.client import Cluster, Invalid, NotFound, Object, Ref
from hotfire.rollout.closure import closure, rank
from hotfire.rollout.deploy import Deploy
from hotfire.rollout.may_differ import comparable, differences, owners
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.release import release
from hotfire.rollout.restore import Restore
from hotfire.rollout.snapshot import take
from hotfire.scenario.loader import load
from hotfire.words import Mode

SCENARIO = """
apiVersion: hotfire/v1
kind: Scenario
name: exact
about: a test
mode: promote
users: none
candidate: {manifests: manifests/, serves: [{workload: deployment/llama, service: llama, runtime: tiny, model: m}]}
stand: {namespace: NAMESPACE, accelerators: simulated}
startup: {ready_within: 30s}
"""


def of(api_version: str, kind: str, name: str, **body: object) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body}


def workload(mark: str, replicas: int | None = 2) -> Object:
    container = {
        "name": "server", "image": "registry.example/engine@sha256:" + "a" * 64, "env": [{"name": "MARK", "value": mark}],
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "token"}}],
        "resources": {"limits": {"nvidia.com/gpu": 1, "cpu": "1000m"}},
    }  # fmt: skip
    volumes = [{"name": "all", "projected": {"sources": [{"configMap": {"name": "prompts"}}, {"secret": {"name": "tls"}}]}}]
    spec = {
        "serviceAccountName": "server",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [container],
        "volumes": volumes,
    }
    template = {"metadata": {"labels": {"app": "llama"}}, "spec": spec}
    outer = {"selector": {"matchLabels": {"app": "llama"}}, "template": template}
    return of("apps/v1", "Deployment", "llama", spec=outer | ({} if replicas is None else {"replicas": replicas}))


def secret(name: str, value: str) -> Object:
    return of("v1", "Secret", name, type="Opaque", data={"k": base64.b64encode(value.encode()).decode()})


SELECT = {"matchLabels": {"app": "llama"}}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"}
HPA = of("autoscaling/v2", "HorizontalPodAutoscaler", "llama", spec={"maxReplicas": 4, "scaleTargetRef": TARGET})
RULES = [{"http": {"paths": [{"path": "/", "pathType": "Prefix",
                              "backend": {"service": {"name": "llama", "port": {"number": 80}}}}]}}]  # fmt: skip
OLD: list[Object] = [
    of("v1", "ServiceAccount", "server"),
    secret("token", "old"), secret("tls", "cert"), secret("pull", "pw"),
    of("v1", "ConfigMap", "settings", data={"BATCH": "8"}),
    of("v1", "ConfigMap", "prompts", data={"p": "hello"}),
    of("v1", "Service", "llama", spec={"selector": {"app": "llama"}, "ports": [{"port": 80}]}),
    of("policy/v1", "PodDisruptionBudget", "llama", spec={"minAvailable": 1, "selector": SELECT}),
    of("networking.k8s.io/v1", "NetworkPolicy", "llama", spec={"podSelector": SELECT, "policyTypes": ["Ingress"]}),
    of("networking.k8s.io/v1", "Ingress", "llama", spec={"rules": RULES}),
    workload("old"),
]  # fmt: skip
NEW: list[Object] = [
    secret("token", "new"),
    of("v1", "ConfigMap", "settings", data={"BATCH": "16", "EXTRA": "1"}),
    of("v1", "Service", "llama", spec={"selector": {"app": "llama"}, "ports": [{"port": 8000, "name": "http"}]}),
    of("policy/v1", "PodDisruptionBudget", "llama", spec={"minAvailable": 0, "selector": SELECT}),
    of("v1", "ConfigMap", "added", data={"a": "b"}),
    workload("new", 3),
]


class Scene:
    """One baseline by kubectl, one run over it."""

    def __init__(self, cluster: Cluster, namespace: str, kubectl: list[str], folder: Path) -> None:
        self.cluster, self.namespace, self.kubectl, self.folder = cluster, namespace, kubectl, folder

    def apply(self, objects: list[Object], *words: str) -> str:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        command = [*self.kubectl, "-n", self.namespace, *(words or ("apply",)), "-f", "-"]
        ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    def arm(self, objects: list[Object], run: str = "run-a") -> tuple[Deploy, Journal]:
        (self.folder / "manifests").mkdir(exist_ok=True)
        (self.folder / "manifests" / "all.yaml").write_text("---\n".join(json.dumps(deepcopy(one)) + "\n" for one in objects))
        (self.folder / "scenario.yaml").write_text(SCENARIO.replace("NAMESPACE", self.namespace))
        self.located = load(self.folder / "scenario.yaml")
        from hotfire.rollout.closure import written

        body = Body(run=run, namespace=self.namespace, mode=Mode.PROMOTE, workloads=("deployment/llama",), services=("llama",))
        journal = Journal.open(self.cluster, self.namespace, body)
        snapshot = take(self.cluster, self.located, self.namespace)
        keep(journal, snapshot.stored())
        meta = {"name": f"hotfire-anchor-{run}", "namespace": self.namespace, "labels": {RUN_LABEL: run}}
        anchor = self.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        deploy = Deploy(self.cluster, written(self.located, self.namespace), snapshot.before, journal, anchor, lambda: None)
        return deploy, journal

    def live(self, obj: Object) -> Object:
        return self.cluster.get(Ref(obj["apiVersion"], obj["kind"], self.namespace, obj["metadata"]["name"]))

    def restore(self, journal: Journal) -> list[str]:
        back = Restore(journal, fetch(journal), lambda: None)
        writes = back.go()
        assert back.waiting == []
        return writes


@pytest.fixture
def scene(cluster, namespace, control_plane, tmp_path):
    kubectl = [str(control_plane.binaries["kube-apiserver"].parent / "kubectl"), "--kubeconfig",
               str(control_plane.kubeconfig("admin"))]  # fmt: skip
    return Scene(cluster, namespace, kubectl, tmp_path)


@pytest.fixture
def old(scene):
    scene.apply(OLD)
    return scene


# -- closure and snapshot -----------------------------------------------------------------------------------------


def test_the_closure_holds_all_that_the_pods_name_and_all_that_points_at_them(old):
    old.apply([HPA])
    old.arm(NEW)
    found = {str(ref): ours for ref, ours in closure(old.cluster, old.located, old.namespace).items()}
    rested = {"serviceaccount/server", "secret/tls", "secret/pull", "configmap/prompts", "networkpolicy/llama",
              "ingress/llama", "horizontalpodautoscaler/llama"}  # fmt: skip
    written = {"secret/token", "configmap/settings", "configmap/added", "service/llama", "deployment/llama",
               "poddisruptionbudget/llama"}  # fmt: skip
    assert found == dict.fromkeys(rested, False) | dict.fromkeys(written, True)


def test_the_record_holds_no_secret_and_its_digest_moves_with_the_content(old):
    old.arm(NEW)
    first = take(old.cluster, old.located, old.namespace).event()
    old.apply([of("v1", "ConfigMap", "prompts", data={"p": "bye"})])
    second = take(old.cluster, old.located, old.namespace).event()
    assert first.digest != second.digest and len(first.objects) == 13 - 1
    assert base64.b64encode(b"old").decode() not in first.model_dump_json()


# -- deploy -------------------------------------------------------------------------------------------------------


def test_a_deploy_is_exact_and_lists_what_it_carried_over(old):
    deploy, journal = old.arm(NEW)
    rows = {row["object"]: row for row in deploy.apply().objects}
    assert deploy.differences() == (6, [])
    assert rows["configmap/added"]["how"] == "created" and rows["deployment/llama"]["how"] == "replaced"
    assert "spec.clusterIP: allotted by the cluster" in rows["service/llama"]["carried"]
    assert {entry.op for entry in journal.body.entries} == {"put-back", "delete-added", "replace-pods"}


def test_nothing_of_an_older_version_stays_in_what_is_replaced(old):
    deploy, _ = old.arm(NEW)
    deploy.apply()
    assert old.live(NEW[1])["data"] == {"BATCH": "16", "EXTRA": "1"}
    assert [port["port"] for port in old.live(NEW[2])["spec"]["ports"]] == [8000]


@pytest.mark.parametrize(
    ("index", "path", "value", "named"),
    [
        (5, ("spec", "replicas"), 7, "spec.replicas: 7 is there, 3 is expected"),
        (5, ("spec", "template", "spec", "terminationGracePeriodSeconds"), 5, "terminationGracePeriodSeconds: 5 is there"),
        (1, ("data", "BATCH"), "17", "data.BATCH: '17' is there"),
        (1, ("metadata", "labels"), {"who": "else"}, "metadata.labels.who"),
        (0, ("data", "k"), "bmV3Mg==", "data: is not as in the manifest"),
        (3, ("spec", "minAvailable"), 1, "spec.minAvailable: 1 is there, 0 is expected"),
    ],
)
def test_a_live_object_that_somebody_changed_is_named_with_path_and_both_values(old, index, path, value, named):
    deploy, _ = old.arm(NEW)
    deploy.apply()
    live = old.live(NEW[index])
    place = live
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    old.cluster.replace(live)
    count, lines = deploy.differences()
    assert count == 6 and len(lines) == 1 and named in lines[0]


def test_another_object_of_the_same_name_is_not_taken_for_it(old):
    deploy, _ = old.arm(NEW)
    deploy.apply()
    live = old.live(NEW[4])
    old.cluster.delete(Ref.of(live), uid=live["metadata"]["uid"])
    old.apply([NEW[4]])
    assert any("another object of that name" in line for line in deploy.differences()[1])


@pytest.mark.parametrize("index", [1, 5])
def test_what_is_gone_is_named(old, index):
    """Configuration that the pods read, or the workload itself: no later question may trip over it."""
    deploy, _ = old.arm(NEW)
    deploy.apply()
    live = old.live(NEW[index])
    old.cluster.delete(Ref.of(live), uid=live["metadata"]["uid"])
    assert deploy.differences() == (6, [f"{Ref.of(live)}: is not there"])


def test_what_is_not_the_manifests_to_say_is_carried_over(old):
    live = old.live(workload("old"))
    live["metadata"]["annotations"]["operator.example/seen"] = "yes"
    live["metadata"]["finalizers"] = ["operator.example/hold"]
    old.cluster.replace(live)
    deploy, _ = old.arm([NEW[2], workload("new", None)])
    carried = next(row["carried"] for row in deploy.apply().objects if row["object"] == "deployment/llama")
    meta = old.live(NEW[5])["metadata"]
    assert meta["annotations"]["operator.example/seen"] == "yes" and meta["finalizers"] == ["operator.example/hold"]
    assert len(carried) == 4 and old.live(NEW[5])["spec"]["replicas"] == 2
    assert deploy.differences() == (2, [])


def test_replicas_of_an_autoscaled_workload_are_the_autoscalers(old):
    old.apply([HPA])
    deploy, _ = old.arm(NEW)
    deploy.apply()
    assert old.live(NEW[5])["spec"]["replicas"] == 2 and deploy.differences() == (6, [])


def test_an_object_the_server_refuses_is_the_candidates_fault(old):
    wrong = workload("new")
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Sometimes"
    deploy, _ = old.arm([NEW[2], wrong])
    with pytest.raises(Breach, match="Sometimes") as caught:
        deploy.apply()
    assert caught.value.blame == "candidate"


def test_a_change_by_others_since_the_snapshot_stops_the_deploy(old):
    deploy, _ = old.arm(NEW)
    old.apply([of("v1", "ConfigMap", "settings", data={"BATCH": "9"})])
    with pytest.raises(Breach, match=r"settings: somebody changed it since the snapshot") as caught:
        deploy.apply()
    assert caught.value.blame == "platform" and old.live(NEW[1])["data"] == {"BATCH": "9"}


def test_nothing_is_written_once_the_lease_is_lost(old):
    deploy, _ = old.arm(NEW)

    def lost() -> None:
        raise LeaseLost("gone")

    deploy.guard = lost
    with pytest.raises(LeaseLost):
        deploy.apply()
    assert old.live(NEW[1])["data"] == {"BATCH": "8"}


# -- restore ------------------------------------------------------------------------------------------------------


def mutate(scene: Scene) -> None:
    """Every kind of the closure, by a stranger's hand."""
    for obj in [*OLD, HPA]:
        live = scene.live(obj)
        live["metadata"]["labels"] = {"mutated": "yes"}
        live["metadata"].setdefault("annotations", {})["mutated"] = "yes"
        if "data" in live and obj["kind"] == "ConfigMap":
            live["data"] = {"only": "this"}
        scene.cluster.replace(live)


def test_residual_difference_is_none_after_every_kind_was_mutated_and_the_candidate_deployed(old):
    old.apply([HPA])
    before = [old.live(obj) for obj in [*OLD, HPA]]
    deploy, journal = old.arm(NEW)
    deploy.apply()
    mutate(old)
    secrets = [obj for obj in before if obj["kind"] == "Secret" and obj["metadata"]["name"] != "token"]
    writes = old.restore(journal)
    left = {Ref.of(obj): differences(comparable(obj), comparable(old.live(obj))) for obj in before if obj not in secrets}
    assert writes and not any(left.values()), left
    assert [owners(obj) for obj in before if obj not in secrets] == [
        owners(old.live(obj)) for obj in before if obj not in secrets
    ]


def test_a_second_restore_writes_nothing(old):
    deploy, journal = old.arm(NEW)
    deploy.apply()
    assert len(old.restore(journal)) > 5
    assert old.restore(journal) == []


def test_the_owners_next_apply_has_nothing_to_do(old):
    generations = [old.live(obj)["metadata"].get("generation") for obj in OLD]
    deploy, journal = old.arm(NEW)
    deploy.apply()
    old.restore(journal)
    restored = [old.live(obj)["metadata"]["resourceVersion"] for obj in OLD if obj["kind"] != "PodDisruptionBudget"]
    old.apply(OLD)
    assert restored == [old.live(obj)["metadata"]["resourceVersion"] for obj in OLD if obj["kind"] != "PodDisruptionBudget"]
    assert old.apply(OLD, "diff") == "" and generations[0] is None


def test_the_owners_next_server_side_apply_changes_nothing_and_meets_no_conflict(scene):
    scene.apply(OLD, "apply", "--server-side")
    before = [owners(scene.live(obj)) for obj in OLD]
    deploy, journal = scene.arm(NEW)
    deploy.apply()
    scene.restore(journal)
    restored = [scene.live(obj)["metadata"]["resourceVersion"] for obj in OLD]
    scene.apply(OLD, "apply", "--server-side")
    assert [scene.live(obj)["metadata"]["resourceVersion"] for obj in OLD] == restored
    assert [owners(scene.live(obj)) for obj in OLD] == before


def test_what_the_candidate_deleted_is_made_again_and_what_it_added_is_gone(old):
    deploy, journal = old.arm(NEW)
    deploy.apply()
    for obj in (OLD[4], OLD[7], OLD[-1]):
        old.cluster.delete(Ref.of(old.live(obj)), uid=old.live(obj)["metadata"]["uid"])
    writes = old.restore(journal)
    assert "recreated deployment/llama" in writes and old.live(OLD[4])["data"] == {"BATCH": "8"}
    with pytest.raises(NotFound):
        old.live(NEW[4])


def test_one_object_that_the_server_refuses_keeps_no_other_from_its_place(old):
    """A ConfigMap that became immutable: Service and workload return all the same, what may be rested on stays, and which pods
    read the candidate's configuration is not settled before that is gone."""
    deploy, journal = old.arm(NEW)
    deploy.apply()
    old.cluster.replace({**old.live(NEW[1]), "immutable": True})
    back = Restore(journal, fetch(journal), lambda: None)
    for _ in range(2):
        with pytest.raises(Invalid, match=r"replace configmap/settings: .*immutable"):
            back.go()
    assert old.live(NEW[5])["spec"]["replicas"] == 2 and [port["port"] for port in old.live(NEW[2])["spec"]["ports"]] == [80]
    assert old.live(NEW[4])["data"] == {"a": "b"}
    assert {entry.uids for entry in journal.of_type(ReplacePods)} == {None}


def test_a_workload_that_vanishes_while_it_is_waited_for_is_made_again(old):
    deploy, journal = old.arm(NEW)
    deploy.apply()
    live = old.live(NEW[5])
    held = old.cluster.replace({**live, "metadata": {**live["metadata"], "finalizers": ["example.org/wait"]}})
    old.cluster.delete(Ref.of(held), uid=held["metadata"]["uid"])
    back = Restore(journal, fetch(journal), lambda: None)
    put_back = back._put_back

    def vanishing(obj: Object) -> None:
        put_back(obj)
        if obj["kind"] == "Deployment" and back.waiting:
            now = old.live(obj)
            old.cluster.replace({**now, "metadata": {**now["metadata"], "finalizers": []}})

    back._put_back = vanishing
    back.go()
    assert any("deployment/llama" in line for line in back.waiting)
    assert "recreated deployment/llama" in back.go() and back.waiting == []


def test_an_object_of_an_added_name_without_the_runs_label_is_left_alone(old):
    deploy, journal = old.arm(NEW)
    deploy.apply()
    added = old.live(NEW[4])
    old.cluster.delete(Ref.of(added), uid=added["metadata"]["uid"])
    old.apply([of("v1", "ConfigMap", "added", data={"mine": "now"})])
    old.restore(journal)
    assert old.live(NEW[4])["data"] == {"mine": "now"}


def test_a_claim_is_created_if_asked_and_never_deleted(old):
    claim = of("v1", "PersistentVolumeClaim", "cache",
               spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})  # fmt: skip
    deploy, journal = old.arm([*NEW, claim])
    deploy.apply()
    old.restore(journal)
    assert "ownerReferences" not in old.live(claim)["metadata"] and RUN_LABEL not in old.live(claim)["metadata"].get(
        "labels", {}
    )


def test_a_run_that_died_between_intent_and_write_is_undone_by_lookup(old):
    deploy, journal = old.arm(NEW)
    journal.record(*deploy.undo())
    deploy._create(NEW[4] | {"metadata": {"name": "added", "namespace": old.namespace}})
    again = Journal.read(old.cluster, old.namespace, "deployment/llama")
    assert old.restore(again)[:1] == ["deleted configmap/added"]


def test_after_confirming_the_candidates_objects_belong_to_nobody_of_ours(old):
    deploy, journal = old.arm(NEW)
    deploy.apply()
    helper = {"name": "llama-nodeport", "namespace": old.namespace}
    deploy.add({"apiVersion": "v1", "kind": "Service", "metadata": helper, "spec": {"ports": [{"port": 80}]}})
    release(journal, lambda: None)
    meta = old.live(NEW[4])["metadata"]
    assert "ownerReferences" not in meta and not meta.get("labels")
    assert [obj["metadata"]["name"] for obj in old.cluster.list("v1", "Service", old.namespace)] == ["llama"]
    assert deploy.differences() == (6, []) and release(journal, lambda: None) == []


def test_configuration_is_applied_before_what_uses_it() -> None:
    kinds = ["Deployment", "HorizontalPodAutoscaler", "ConfigMap", "ServiceAccount", "Service"]
    assert sorted(kinds, key=rank) == ["ServiceAccount", "ConfigMap", "Service", "HorizontalPodAutoscaler", "Deployment"]

"""What cannot be taken back, or not by whom it must: said before anything is changed where it can be known, else UNSAFE."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Refused
from hotfire.journal.entries import DeleteAdded
from hotfire.journal.journal import MANAGED, Body, Journal, name_for
from hotfire.journal.lease import Lease
from hotfire.journal.store import Stored, keep
from hotfire.kube.client import ApiError, Cluster, Object, Ref
from hotfire.kube.wait import pause
from hotfire.plugin.nouns.preflight import Preflight
from hotfire.rollout.feasible import held
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.proof import judge
from hotfire.rollout.settle import Settling
from hotfire.rollout.takeover import abort
from hotfire.scenario.loader import load
from hotfire.words import Blame, Decision, Mode, Proof, State
from tests.component.test_rollout_proof import StillLife, not_ready
from tests.control_plane import let
from tests.dead_run import LLAMA, NOT_ASKED, Scene, configmap
from tests.planted_run import WORKLOAD, Ended, Ground, planted_suite

WATCHED = ("--hotfire-watchdog-image", "registry.example/hotfire@sha256:" + "b" * 64)
LEASES = "coordination.k8s.io/v1"


def refused(ground: Ground, ended: Ended, says: str) -> None:
    """Exit 4 with the reason, no traceback, and nothing of a run there."""
    assert ended.code == 4 and says in ended.output and "Traceback" not in ended.output, ended.output
    assert ground.reports == [] and ground.cluster.list("batch/v1", "Job", ground.namespace) == []


# -- before anything is changed ----------------------------------------------------------------------------------------


def test_a_lease_that_no_hotfire_made_is_never_taken(ground: Ground) -> None:
    meta = {"name": name_for(WORKLOAD), "namespace": ground.namespace}
    spec = {"holderIdentity": "controller-7", "leaseDurationSeconds": 1}
    before = ground.cluster.create({"apiVersion": LEASES, "kind": "Lease", "metadata": meta, "spec": spec})
    ground.plant(planted_suite())
    refused(ground, ground.run("--hotfire-wait", "5s"), "was not made by hotfire and is held by controller-7")
    assert ground.cluster.get(Ref.of(before)) == before and ground.journal is None


def test_a_kind_that_the_server_does_not_have_is_refused_before_anything_is_changed(ground: Ground) -> None:
    serves = {"workload": "LeaderWorkerSet.v1.leaderworkerset.x-k8s.io/tiny", "pods": "app=tiny", "ready": 1,
              "service": "tiny", "runtime": "tiny", "model": "m"}  # fmt: skip
    ground.plant(planted_suite(), {"candidate": {"manifests": "manifests/", "serves": [serves]}})
    manifests = ground.folder / "manifests" / "all.yaml"
    text = manifests.read_text().replace("apps/v1", "leaderworkerset.x-k8s.io/v1").replace("Deployment", "LeaderWorkerSet")
    manifests.write_text(text)
    refused(ground, ground.run(), "LeaderWorkerSet")
    assert ground.left == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "hotfire/journal/v2"}, "has version 'hotfire/journal/v2', 'hotfire/journal/v1' is understood"),
        ({"entries": [{"op": "run-this", "code": "rm"}]}, "damaged at entries.0: "),
    ],
)
def test_a_journal_that_is_not_understood_keeps_the_next_run_out(ground: Ground, change: Object, says: str) -> None:
    body = Body(run="run-a", namespace=ground.namespace, mode=Mode.CERTIFY, workloads=(WORKLOAD,))
    meta = {"name": name_for(WORKLOAD), "namespace": ground.namespace, "labels": dict(MANAGED)}
    data = {"journal": json.dumps(json.loads(body.model_dump_json()) | change)}
    before = ground.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    ground.plant(planted_suite())
    refused(ground, ground.run(), says)
    assert ground.cluster.get(Ref.of(before)) == before


def test_a_quota_without_room_for_the_watchdog_is_said_first(ground: Ground) -> None:
    hard = {"hard": {"count/jobs.batch": "0"}}
    meta = {"name": "full", "namespace": ground.namespace}
    quota = ground.cluster.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": hard})
    used = {**hard, "used": {"count/jobs.batch": "0"}}
    ground.cluster.replace({**quota, "status": used}, subresource="status")
    ground.plant(planted_suite())
    refused(ground, ground.run(*WATCHED), f"the watchdog's Job is refused in {ground.namespace}: ")
    assert ground.journal is None


@pytest.fixture
def policy(ground: Ground) -> Iterator[str]:
    """An admission policy that is in force in the ground's namespace: no pods without a reason."""
    name, api = f"no-pods-{ground.namespace}", "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ground.namespace}}}
    spec = {"matchConstraints": {"resourceRules": [rule], **only}}
    spec |= {"validations": [{"expression": "has(object.metadata.annotations)", "message": "a reason is missing"}]}
    bound = {"policyName": name, "validationActions": ["Deny"]}
    made = [
        ground.cluster.create({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": body})
        for kind, body in (("ValidatingAdmissionPolicy", spec), ("ValidatingAdmissionPolicyBinding", bound))
    ]
    pod = {"spec": {"containers": [{"name": "a", "image": "b"}]}, "metadata": {"name": "a", "namespace": ground.namespace}}
    for _ in range(100):  # the API server takes a moment to know it
        if not allowed(ground.cluster, {"apiVersion": "v1", "kind": "Pod", **pod}):
            break
        pause(0.2)
    yield "a reason is missing"
    for obj in made:
        ground.cluster.delete(Ref.of(obj), uid=obj["metadata"]["uid"])


def allowed(cluster: Cluster, obj: Object) -> bool:
    try:
        cluster.create(obj, dry_run=True)
    except ApiError:
        return False
    return True


def test_an_admission_policy_that_refuses_the_watchdog_is_said_first(ground: Ground, policy: str) -> None:
    ground.plant(planted_suite())
    ended = ground.run(*WATCHED)
    refused(ground, ended, f"the watchdog's Pod is refused in {ground.namespace}: ")
    assert policy in ended.output and ground.journal is None


def test_an_object_that_a_finalizer_holds_or_would_hold_is_no_way_back(ground: Ground) -> None:
    ground.plant(planted_suite())
    (ground.folder / "manifests" / "more.yaml").write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: new, finalizers: [example.org/wait]}}"
    )
    meta = {"name": "tiny", "namespace": ground.namespace, "finalizers": ["example.org/clean"]}
    made = ground.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})
    ground.cluster.delete(Ref.of(made), uid=made["metadata"]["uid"])
    service, new = sorted(held(ground.cluster, load(ground.folder / "scenario.yaml"), ground.namespace), reverse=True)
    assert service.startswith("service/tiny is being deleted since") and "held by the finalizer example.org/clean" in service
    assert new.startswith("configmap/new would be new and asks for the finalizer example.org/wait")


def test_configuration_that_the_candidate_would_seal_is_no_way_back_and_the_candidates_fault(ground: Ground) -> None:
    """One that is immutable already, or new, is neither."""
    kept = {"data": {"a": "b"}, "immutable": True}
    for name, body in (("settings", {"data": {"a": "b"}}), ("kept", kept)):
        made = configmap(ground.namespace, name)
        ground.cluster.create({**made, **body})
    ground.plant(planted_suite())
    (ground.folder / "manifests" / "more.yaml").write_text(
        "---\n".join(json.dumps({**configmap(ground.namespace, name), **kept}) + "\n" for name in ("settings", "kept", "new"))
    )
    preflight = Preflight(ground.cluster, load(ground.folder / "scenario.yaml"), ground.namespace)
    with running("rollback.feasible", CheckSpec("rollback.feasible", Evidence("workload")), lambda event: None):
        found = preflight.lacking_for_the_way_back()
    assert found.blame is Blame.CANDIDATE and found[0].startswith("configmap/settings is there and would become immutable: ")
    assert not any("configmap/" in line for line in found[1:])


def test_a_right_that_the_watchdog_lacks_is_named_before_the_run_is_armed(control_plane, scene: Scene) -> None:
    scene.journal.write(state=State.OPEN)
    let(scene.cluster, scene.namespace, {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list"]})
    command = [sys.executable, "-m", "hotfire.rollout.watchdog", "--kubeconfig", str(control_plane.kubeconfig("reader"))]
    command += ["--home", scene.namespace, "--journal", scene.journal.ref.name, "--run", "run-a"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert ended.returncode == 1 and 'cannot update resource "configmaps"' in ended.stdout, ended.stdout + ended.stderr


# -- afterwards: UNSAFE, with the reason -------------------------------------------------------------------------------


@pytest.fixture
def settling(cluster: Cluster, namespace: str) -> Settling:
    """A run in TESTING that added a ConfigMap with a finalizer of somebody's."""
    body = Body(run="run-a", namespace=namespace, mode=Mode.PROMOTE, workloads=(LLAMA,), lease_s=1, soak_s=0, within_s=1)
    journal = Journal.open(cluster, namespace, body)
    keep(journal, Stored([cluster.create(configmap(namespace, "settings", BATCH="8"))]), not_applicable=NOT_ASKED)
    journal.record(DeleteAdded.of(Ref("v1", "ConfigMap", namespace, "added")))
    journal.write(state=State.TESTING)
    added = configmap(namespace, "added", {RUN_LABEL: "run-a"})
    cluster.create({**added, "metadata": {**added["metadata"], "finalizers": ["example.org/wait"]}})
    return Settling(journal, lambda: None, lambda event: None, "run-a")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotfire.rollout.settle.LEAST_S", 2.0)


def test_what_a_finalizer_holds_on_the_way_back_is_unsafe_and_named(settling: Settling, impatient: None) -> None:
    ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    (line,) = [line for line in ending.unproven if line.startswith("landed")]
    assert "configmap/added, which the run added, is still there, being deleted since" in line
    assert "held by the finalizer example.org/wait" in line and not ending.safe and not settling.journal.ended


def test_a_journal_that_is_damaged_under_a_run_is_unsafe_and_the_entry_is_shown(settling: Settling) -> None:
    journal = settling.journal
    damaged = json.loads(journal.body.model_dump_json()) | {"entries": [{"op": "run-this", "code": "rm"}]}
    journal.cluster.replace({**journal.live, "data": {"journal": json.dumps(damaged)}})
    ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    assert not ending.safe and "damaged at entries.0" in ending.problems[0] and "run-this" in ending.problems[0]


def test_a_foreign_lease_is_never_inherited(settling: Settling) -> None:
    cluster, namespace = settling.journal.cluster, settling.journal.body.namespace
    held_by = Lease.take(cluster, namespace, [LLAMA], "run-a", 1)
    held_by.release()
    lease = cluster.get(Ref(LEASES, "Lease", namespace, name_for(LLAMA)))
    cluster.replace({**lease, "metadata": {**lease["metadata"], "labels": {}}})
    with pytest.raises(Refused, match="was not made by hotfire"):
        abort(cluster, namespace, tell=lambda line: None)
    assert settling.journal.cluster.get(settling.journal.ref) == settling.journal.live


def test_an_image_that_vanished_since_the_snapshot_is_said_by_the_pods(cluster: Cluster, namespace: str) -> None:
    life = StillLife(cluster, namespace)
    not_ready(life)
    gone = {"waiting": {"reason": "ImagePullBackOff", "message": "registry.example/engine: not found"}}
    state = {"name": "server", "ready": False, "restartCount": 0, "image": "engine", "imageID": "", "state": gone}
    life.status(life.pod, phase="Pending", containerStatuses=[state], conditions=[{"type": "Ready", "status": "False"}])
    found = judge(life.scene, "landed")
    assert found.result is Proof.UNPROVEN and "llama-h1-x: " in found.evidence and "not found" in found.evidence

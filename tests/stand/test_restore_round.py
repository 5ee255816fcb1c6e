"""The way back on real kubelets: what kubectl applied is there again, and its owner notices nothing."""

import json
import subprocess
import uuid
from copy import deepcopy
from pathlib import Path

import pytest

from hotfire.errors import Breach, Refused
from hotfire.journal.journal import Journal
from hotfire.kube.client import Ref
from hotfire.kube.wait import wait_for
from hotfire.rollout.population import endpoints, population
from hotfire.rollout.rollout import Rollout
from hotfire.rollout.takeover import abort
from hotfire.scenario.loader import load
from hotfire.words import Decision, Proof, State, Verdict

SCENARIO = """
apiVersion: hotfire/v1
kind: Scenario
name: round
about: a test of the way back
mode: MODE
users: none
candidate: {manifests: manifests/, serves: [{workload: deployment/llama, service: llama, runtime: tiny, model: m}]}
stand: {namespace: NAMESPACE, accelerators: simulated}
startup: {ready_within: 30s}
rollback: {within: 30s, soak: 1s}
lock: {lease: 3s}
"""


def workload(mark, replicas=2, name="llama", **more):
    container = {
        "name": "server", "image": "hotfire.local/pause:1", "imagePullPolicy": "Never",
        "env": [{"name": "MARK", "value": mark}], "envFrom": [{"configMapRef": {"name": "settings"}}],
        "resources": {"limits": {"cpu": "50m", "memory": "32Mi"}, "requests": {"cpu": "5m", "memory": "16Mi"}},
    }  # fmt: skip
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "enableServiceLinks": False}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {"team": "serving"}},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "selector": {"matchLabels": {"app": name}}, "revisionHistoryLimit": 3,
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec}, **more,
        },
    }  # fmt: skip


def service(port=80):
    spec = {"selector": {"app": "llama"}, "ports": [{"name": "http", "port": port, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llama"}, "spec": spec}


def settings(value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"BATCH": value}}


def budget(least=1):
    spec = {"minAvailable": least, "selector": {"matchLabels": {"app": "llama"}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "llama"}, "spec": spec}


OLD = [settings("8"), service(), budget(), workload("old")]
NEW = [settings("16"), service(8000), budget(0), workload("new", 1), workload("extra", 1, "extra")]


ALWAYS = "poddisruptionbudget.policy/llama configured"  # kubectl says so of an untouched one too: it sends the selector whole


class Owner:
    """Whoever applied the baseline: kubectl, and nothing of hotfire."""

    def __init__(self, embedded, namespace):
        self.command = [str(embedded.kubectl), "--kubeconfig", str(embedded.kubeconfig), "-n", namespace]

    def __call__(self, *words, given=None):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": given}) if given else None
        ended = subprocess.run([*self.command, *words], input=text, capture_output=True, text=True, timeout=60, check=False)
        return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture
def place(namespace):
    return str(namespace["metadata"]["name"])


@pytest.fixture
def owner(embedded, place):
    return Owner(embedded, place)


@pytest.fixture
def baseline(cluster, owner, place):
    assert owner("apply", "-f", "-", given=OLD)[0] == 0
    return ready(cluster, place)


def ready(cluster, place, name="llama", kind="Deployment"):
    ref = Ref("apps/v1", kind, place, name)

    def served(_):
        found = population(cluster, ref)
        whole = found.owner_uid and len(found.pods) == found.wanted and not found.others and not found.leaving
        return found if whole and found.workload["status"].get("readyReplicas", 0) == found.wanted else None

    return wait_for(cluster, f"{name} ready", "v1", "Pod", place, until=served, deadline_s=60)


@pytest.fixture
def run(cluster, place, tmp_path):
    """Opens runs of manifests in the test's namespace; what they hold is let go in the end."""
    opened = []

    def start(objects, mode="promote", workload="deployment/llama"):
        folder = tmp_path / uuid.uuid4().hex / "manifests"
        folder.mkdir(parents=True)
        (folder / "all.yaml").write_text("---\n".join(json.dumps(deepcopy(one)) + "\n" for one in objects))
        text = SCENARIO.replace("NAMESPACE", place).replace("MODE", mode).replace("deployment/llama", workload)
        (folder.parent / "scenario.yaml").write_text(text)
        events = []
        located = load(Path(folder.parent / "scenario.yaml"))
        rollout = Rollout.open(cluster, located, place, f"run-{uuid.uuid4().hex[:8]}", emit=events.append)
        rollout.events = events
        opened.append(rollout)
        return rollout

    yield start
    for rollout in opened:
        rollout.lease.release()


def answers(cluster, place):
    """The way a user would know: a ready pod behind the Service."""

    def ask():
        found = endpoints(cluster, place, "llama")
        if not any((one.get("conditions") or {}).get("ready") for one in found):
            raise Breach("nobody is behind llama")
        return f"{len(found)} behind llama"

    return ask


def spoken(owner):
    """What the owner's next apply, from either side, says it would do or did."""
    before = owner("get", "deploy,svc,cm,pdb", "-o", "jsonpath={range .items[*]}{.metadata.generation} {end}")
    told = [owner(*words, given=OLD) for words in (("diff", "-f", "-"), ("apply", "-f", "-"))]
    after = owner("get", "deploy,svc,cm,pdb", "-o", "jsonpath={range .items[*]}{.metadata.generation} {end}")
    return told, before == after


def test_a_rollback_is_proven_and_the_owners_next_apply_has_nothing_to_do(cluster, place, owner, baseline, run):
    rollout = run(NEW)
    images = rollout.arm(can_ask=True).images
    rollout.apply()
    ready(cluster, place)
    assert rollout.differences() == (5, []) and images and all(image.startswith("sha256:") for image in images)
    ending = rollout.settle(Decision.ROLL_BACK, "a test", probe=answers(cluster, place))
    assert (ending.state, ending.unproven) == (State.RESTORED, [])
    assert {point for point, one in ending.proofs.items() if one.result is not Proof.PROVEN} == {"devices"}
    (diff, applied), still = spoken(owner)
    assert diff == (0, "") and still and applied[0] == 0
    assert [line for line in applied[1].splitlines() if not line.endswith(" unchanged")] == [ALWAYS]
    assert {pod["metadata"]["uid"] for pod in ready(cluster, place).pods}.isdisjoint(
        pod["metadata"]["uid"] for pod in baseline.pods
    )


def test_the_owner_by_server_side_apply_meets_no_conflict_after_a_rollback(cluster, place, owner, run):
    assert owner("apply", "--server-side", "-f", "-", given=OLD)[0] == 0
    before = ready(cluster, place).workload["metadata"]["managedFields"]
    rollout = run(NEW)
    rollout.arm(can_ask=False)
    rollout.apply()
    assert rollout.settle(Decision.ROLL_BACK, "a test").unproven == []
    generation = ready(cluster, place).workload["metadata"]["generation"]
    code, said = owner("apply", "--server-side", "-f", "-", given=OLD)
    live = ready(cluster, place).workload
    assert code == 0 and "conflict" not in said and live["metadata"]["generation"] == generation
    assert [one["manager"] for one in live["metadata"]["managedFields"]] == [one["manager"] for one in before]


def test_a_confirmed_candidate_is_its_owners_and_nothing_of_the_run_is_left(cluster, place, baseline, run):
    rollout = run(NEW)
    rollout.arm(can_ask=True)
    rollout.apply()
    ready(cluster, place)
    ending = rollout.settle(Decision.CONFIRM, "a test", "head", new_probe=answers(cluster, place))
    rollout.close(Verdict.GO)
    assert (ending.state, ending.unproven) == (State.CONFIRMED, [])
    live = ready(cluster, place).workload
    assert live["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "new"
    extra = cluster.get(Ref("apps/v1", "Deployment", place, "extra"))
    assert not extra["metadata"].get("ownerReferences") and "hotfire.dev/run" not in extra["metadata"]["labels"]
    names = [obj["metadata"]["name"] for obj in cluster.list("v1", "ConfigMap", place)]
    assert sorted(names) == ["hotfire-deployment-llama", "kube-root-ca.crt", "settings"]


@pytest.mark.parametrize("decision", Decision)
def test_certify_ends_absent_whatever_the_decision(cluster, place, run, decision):
    rollout = run(NEW, "certify")
    rollout.arm(can_ask=False)
    rollout.apply()
    ready(cluster, place)
    ending = rollout.settle(decision, "a test", new_probe=answers(cluster, place))
    assert ending.unproven == [] and ending.state is (State.CONFIRMED if decision is Decision.CONFIRM else State.RESTORED)
    left = [obj["metadata"]["name"] for kind in ("Pod", "Service") for obj in cluster.list("v1", kind, place)]
    assert left == [] and cluster.list("apps/v1", "Deployment", place) == []


def test_a_run_that_died_keeps_the_next_out_until_abort_has_restored(cluster, place, owner, baseline, run):
    dead = run([settings("16"), service(), workload("new")])
    dead.arm(can_ask=False)
    dead.apply()
    dead.lease._stop.set()  # as SIGKILL leaves it: held, never renewed, never released
    dead.lease.held = []
    with pytest.raises(Refused, match="is held by run"):
        run(NEW)
    told = []
    ending = abort(cluster, place, tell=told.append)
    assert (ending.unproven, ending.verdict) == ([], Verdict.INCONCLUSIVE), told
    assert spoken(owner)[0][0] == (0, "")
    assert abort(cluster, place, tell=told.append) is None and "nothing to do" in told[-1]
    run(NEW)


def autoscaler():
    spec = {
        "minReplicas": 1,
        "maxReplicas": 4,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"},
    }
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "llama"}, "spec": spec}


@pytest.mark.parametrize(("scaled", "left"), [(3, 3), (0, 2)], ids=["by its autoscaler", "to zero, where none acts"])
def test_replicas_that_were_moved_meanwhile(cluster, place, owner, baseline, run, scaled, left):
    assert owner("apply", "-f", "-", given=[autoscaler()])[0] == 0
    rollout = run([settings("8"), service(), workload("new", None)])
    rollout.arm(can_ask=True)
    rollout.apply()
    ready(cluster, place)
    assert owner("scale", "deploy/llama", f"--replicas={scaled}")[0] == 0
    ending = rollout.settle(Decision.ROLL_BACK, "a test", probe=answers(cluster, place))
    assert ending.unproven == [] and len(ready(cluster, place).pods) == left


def test_a_baseline_at_zero_is_at_zero_again(cluster, place, owner, run):
    assert owner("apply", "-f", "-", given=[settings("8"), service(), budget(), workload("old", 0)])[0] == 0
    ready(cluster, place)
    rollout = run(NEW)
    rollout.arm(can_ask=False)
    rollout.apply()
    ready(cluster, place)
    ending = rollout.settle(Decision.ROLL_BACK, "a test")
    assert ending.unproven == [] and ending.proofs["function"].result is Proof.NOT_APPLICABLE
    assert ready(cluster, place).pods == () and cluster.list("v1", "Pod", place) == []


def stateful(mark, **pod):
    made = workload(mark)
    made["spec"]["template"]["spec"] |= pod
    made["spec"] |= {"serviceName": "llama"}
    return {**made, "kind": "StatefulSet"}


def test_a_stateful_set_that_is_stuck_on_its_order_is_freed(cluster, place, owner, run):
    """Its controller waits for the broken pod to become ready before it replaces it (kubernetes#67250)."""
    assert owner("apply", "-f", "-", given=[settings("8"), service(), stateful("old")])[0] == 0
    ready(cluster, place, kind="StatefulSet")
    rollout = run([settings("8"), service(), stateful("new", nodeSelector={"nowhere": "at-all"})], workload="statefulset/llama")
    rollout.arm(can_ask=True)
    rollout.apply()
    wait_for(cluster, "stuck", "v1", "Pod", place, deadline_s=30,
             until=lambda pods: any(pod["spec"].get("nodeSelector") for pod in pods.values()) or None)  # fmt: skip
    ending = rollout.settle(Decision.ROLL_BACK, "a test", probe=answers(cluster, place))
    assert ending.unproven == [] and owner("diff", "-f", "-", given=[settings("8"), service(), stateful("old")]) == (0, "")
    assert len(ready(cluster, place, kind="StatefulSet").pods) == 2


def test_what_was_deleted_meanwhile_is_made_again(cluster, place, owner, baseline, run):
    rollout = run(NEW)
    rollout.arm(can_ask=True)
    rollout.apply()
    ready(cluster, place)
    assert owner("delete", "deployment/llama", "deployment/extra", "service/llama", "configmap/settings", "pdb/llama")[0] == 0
    ending = rollout.settle(Decision.ROLL_BACK, "a test", probe=answers(cluster, place))
    assert ending.unproven == [] and "deployment/llama was recreated" in ending.proofs["closure"].evidence
    assert spoken(owner)[0][0] == (0, "")


def test_pods_that_ran_on_edited_configuration_are_replaced(cluster, place, baseline, run):
    rollout = run([settings("16"), service(), budget(), workload("old")])
    rollout.arm(can_ask=False)
    rollout.apply()
    assert rollout.settle(Decision.ROLL_BACK, "a test").unproven == []
    now = {pod["metadata"]["uid"] for pod in ready(cluster, place).pods}
    assert len(now) == 2 and now.isdisjoint(pod["metadata"]["uid"] for pod in baseline.pods)


def test_a_rehearsal_is_a_whole_way_back_and_the_candidate_comes_again(cluster, place, owner, baseline, run):
    """A, B, A, B; then the end is A once more, with its pods replaced: they ran on edited configuration twice."""
    rollout = run([settings("16"), service(8000), budget(0), workload("old"), workload("extra", 1, "extra")])
    rollout.arm(can_ask=True)
    first = rollout.anchor["metadata"]["uid"]
    rollout.apply()
    ready(cluster, place)
    assert rollout.rehearse("rehearsal", probe=answers(cluster, place)).unproven == []
    assert spoken(owner)[0][0] == (0, "")
    rehearsed = {pod["metadata"]["uid"] for pod in ready(cluster, place).pods}
    rollout.rearm()
    rollout.apply()
    ready(cluster, place, "extra")
    compared, (unread,) = rollout.differences()  # its template is the old one, so no pod of it reads what was edited
    assert compared == 5 and "deployment/llama: 2 pods were there before configmap/settings was edited" in unread
    assert rollout.anchor["metadata"]["uid"] != first
    assert rollout.settle(Decision.ROLL_BACK, "a test", probe=answers(cluster, place)).unproven == []
    assert spoken(owner)[0][0] == (0, "") and rehearsed.isdisjoint(baseline.pods[0]["metadata"]["uid"])
    assert rehearsed.isdisjoint(pod["metadata"]["uid"] for pod in ready(cluster, place).pods)


def test_a_candidate_that_never_becomes_ready_is_taken_back(cluster, place, owner, baseline, run):
    broken = workload("new")
    broken["spec"]["template"]["spec"]["nodeSelector"] = {"nowhere": "at-all"}
    rollout = run([settings("8"), service(), broken])
    rollout.arm(can_ask=True)
    rollout.apply()
    ending = rollout.settle(Decision.ROLL_BACK, "a test", probe=answers(cluster, place))
    assert ending.unproven == [] and spoken(owner)[0][0] == (0, "")
    assert {point for point, one in ending.proofs.items() if one.result is Proof.PROVEN} >= {"target", "population", "closure"}


def test_what_cannot_be_confirmed_is_rolled_back(cluster, place, owner, baseline, run):
    rollout = run(NEW)
    rollout.arm(can_ask=True)
    rollout.apply()
    ready(cluster, place)
    assert owner("scale", "deploy/llama", "--replicas=2")[0] == 0
    ending = rollout.settle(Decision.CONFIRM, "a test", probe=answers(cluster, place))
    assert (ending.state, ending.unproven) == (State.RESTORED, [])


def test_an_operators_rollout_undo_meanwhile_is_part_of_the_way_back(cluster, place, owner, baseline, run):
    rollout = run([settings("8"), service(), workload("new")])
    rollout.arm(can_ask=True)
    rollout.apply()
    ready(cluster, place)
    assert owner("rollout", "undo", "deploy/llama")[0] == 0
    ending = rollout.settle(Decision.ROLL_BACK, "a test", probe=answers(cluster, place))
    assert ending.unproven == [] and spoken(owner)[0][0] == (0, "")
    assert Journal.read(cluster, place, "deployment/llama").state is State.RESTORED

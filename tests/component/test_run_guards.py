"""Ways of running that could turn green without looking, and clusters that are not fit: what real pytest makes of each."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotfire.journal.entries import DeleteAdded
from hotfire.journal.journal import Body, Journal
from hotfire.journal.lease import Lease, holder_of
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.words import SIMULATED_NODES, Mode
from tests.control_plane import ControlPlane, free_port, let
from tests.planted_run import ROOT, ROW, WORKLOAD, Ended, Ground, planted_suite

SEES = "saw('serving-pod', 1)"
FAILS, INVALID = ("FAIL", 20), ("INVALID", 21)
PLATFORM = "from hotfire.words import Blame; raise Breach('no', blame=Blame.PLATFORM)"
HALTED = "from hotfire.kube.wait import halt, pause; halt(lambda: run.__dict__.update(halted='enough') or 'enough'); pause(1)"
NO_DATA = "from hotfire.words import Reason; raise Unjudged('?', reason=Reason.NO_DATA)"
BODIES = {  # name -> (body, mark, options, outcome and exit code, reason)
    "xfail": ("assert 1 == 2", "@pytest.mark.xfail", (), FAILS, "xfail"),
    "xpass": (SEES, "@pytest.mark.xfail", (), INVALID, "xpass"),
    "strict xpass": (SEES, "@pytest.mark.xfail(strict=True)", (), INVALID, "xpass"),
    "skip mark": (SEES, "@pytest.mark.skip(reason='not today')", (), ("NOT_RUN", 21), "skipped"),
    "no such fixture": (SEES, "@pytest.mark.usefixtures('nobody')", (), INVALID, "setup-error"),
    "pytest.fail": ("pytest.fail('no')", "", (), INVALID, "foreign-exception"),
    "never ends": ("__import__('threading').Event().wait(9)", "", ("--timeout", "1"), INVALID, "timeout"),
    "an assertion": (f"{SEES}; assert 1 == 2", "", (), FAILS, "breach"),
    "of the platform": (PLATFORM, "", (), ("FAIL", 21), "breach"),
    "not judged": (NO_DATA, "", (), INVALID, "no-data"),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_is_no_plain_pass_is_never_a_pass(ground: Ground, name: str) -> None:
    body, mark, options, (outcome, code), reason = BODIES[name]
    ground.plant(planted_suite(body, mark))
    ended = ground.run(*options)
    found = ended.check(ROW)
    assert (found["outcome"], found["reason"], ended.code) == (outcome, reason, code), ended.output
    assert ended.decided[0] == "ROLL_BACK" and ended.reported(ROW) != ("passed", "passed") and ground.ended_well


def test_what_stops_a_run_leaves_its_other_checks_unasked_and_settles(ground: Ground) -> None:
    ground.plant(planted_suite(HALTED))
    ended = ground.run()
    asked = [one for one in ended.verdict["checks"] if one["asked"]]
    left = asked[[one["check"] for one in asked].index(ROW) :]
    found = [(one["outcome"], one["reason"]) for one in left if not one["check"].startswith("settle.")]
    assert found == [("NOT_RUN", "blocked")] * len(found) and len(found) > 3 and ended.code == 21, ended.output
    assert ended.check(ROW)["message"] == "blocked: enough" and ground.ended_well


SILENT = {
    "-x after a failure": ("raise ZeroDivisionError", ("-x",), "behaviour.contract[tiny]"),
    "a deselected test": ("", ("--deselect", "test_10_planted.py::test_startup_population"), ROW),
    "an ignored file": ("", ("--ignore-glob", "*planted.py"), ROW),
    "other names": ("", ("-o", "python_functions=nothing"), ROW),
    "pytest.exit": ("pytest.exit('enough', returncode=0)", (), "behaviour.contract[tiny]"),
    "a file that cannot be read": ("def", (), ROW),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_was_planned_and_never_heard_of_is_no_go(ground: Ground, name: str) -> None:
    body, options, key = SILENT[name]
    ground.plant(planted_suite(body))
    ended = ground.run(*options)
    assert (ended.code, ended.check(key)["reason"]) == (21, "silent"), ended.output
    assert ended.decided[0] == "ROLL_BACK" and ground.ended_well


REFUSED = {  # name -> (options of Python, options of pytest, what the refusal says); all of them are in test_plugin
    "python -O": (("-O",), (), "python -O"),
    "-n": ((), ("-n", "2"), "-n"),
    "--lf, not loaded": ((), ("--lf",), "--lf"),  # the packaged ini has no cacheprovider
    "--setup-plan": ((), ("--setup-plan",), "does not run with --setup-plan"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_way_of_running_that_could_pass_blindly_is_refused(ground: Ground, name: str) -> None:
    python, options, says = REFUSED[name]
    ground.plant(planted_suite("pass"))
    refused(ground, ground.run(*options, python=python), says)
    assert ground.left == []


def refused(ground: Ground, ended: Ended, *says: str) -> None:
    """Exit 4, every line there, no traceback."""
    assert ended.code == 4 and "Traceback" not in ended.output, ended.output
    assert all(text in ended.output for text in says), ended.output


def as_a_user_would(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "suites", "-c", "suites/pytest.ini", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_suites_without_a_scenario_are_a_usage_error() -> None:
    ended = as_a_user_would()
    assert ended.returncode == 4 and "is a hotfire check: give --hotfire-scenario FILE" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "options", [(), ("--hotfire-scenario", "scenarios/smollm-sound/scenario.yaml")], ids=["bare", "scenario"]
)
def test_a_look_at_the_checks_opens_nothing_and_exits_5(tmp_path: Path, options: tuple[str, ...]) -> None:
    nowhere = ("--hotfire-kubeconfig", str(tmp_path / "none"), "--hotfire-reports", str(tmp_path / "reports"))
    ended = as_a_user_would("--collect-only", "-q", *options, *nowhere)
    assert ended.returncode == 5 and "test_every_pod_is_ready_in_time" in ended.stdout, ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == []


# -- a cluster that is not fit ----------------------------------------------------------------------------------------


def everything(cluster: Cluster, namespace: str) -> list[str]:
    """All objects that a run could make there, with their versions."""
    kinds = (("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service"), ("v1", "Pod"), ("apps/v1", "Deployment"))
    found = [item for kind in (*kinds, ("coordination.k8s.io/v1", "Lease")) for item in cluster.list(*kind, namespace)]
    return [f"{Ref.of(item)} {item['metadata']['resourceVersion']}" for item in found]


def test_a_missing_right_is_named_and_nothing_is_changed(control_plane: ControlPlane, ground: Ground) -> None:
    let(
        ground.cluster,
        ground.namespace,
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"]},
    )
    before = everything(ground.cluster, ground.namespace)
    ground.kubeconfig = control_plane.kubeconfig("reader")
    ground.plant(planted_suite())
    ended = ground.run()
    refused(ground, ended, "not allowed to create pods (", "not allowed to update leases.coordination.k8s.io (the lock)")
    assert "to delete pods" not in ended.output and everything(ground.cluster, ground.namespace) == before
    assert ground.left == []


def test_without_any_right_the_namespace_is_named(control_plane: ControlPlane, ground: Ground) -> None:
    ground.kubeconfig = control_plane.kubeconfig("reader")
    ground.plant(planted_suite())
    refused(ground, ground.run(), f"namespace {ground.namespace} (context reader)", 'cannot get resource "namespaces"')
    assert ground.left == []


def test_a_missing_namespace_is_one_line(ground: Ground) -> None:
    ground.plant(planted_suite(), {"stand": {"namespace": "nowhere", "accelerators": "simulated"}})
    ended = ground.run()
    refused(ground, ended, "namespace nowhere (context admin): not there")
    assert len(errors(ended)) == 1 and ground.reports == []


def errors(ended: Ended) -> list[str]:
    return [line for line in ended.output.splitlines() if line.startswith("ERROR:")]


def test_each_missing_secret_is_a_line(ground: Ground) -> None:
    secrets = [{"name": "hf-token", "key": "token", "as": "env HF_TOKEN"}, {"pull": "regcred"}]
    ground.plant(planted_suite(), {"secrets": secrets})
    ended = ground.run()
    refused(ground, ended, f"Secret hf-token in {ground.namespace} is not there", "Secret regcred in")
    assert len(errors(ended)) == 2 and "scenario.yaml:" in errors(ended)[0] and ground.left == []


@pytest.fixture
def held(ground: Ground) -> Iterator[Lease]:
    lease = Lease.take(ground.cluster, ground.namespace, [WORKLOAD], "run-a", 3)
    yield lease
    lease.release()


def test_a_workload_that_another_run_holds_is_refused_by_its_name(ground: Ground, held: Lease) -> None:
    ground.plant(planted_suite())
    refused(ground, ground.run(), f"{WORKLOAD} in {ground.namespace} is held by run run-a since")
    assert (holder_of(ground.cluster, ground.namespace, WORKLOAD), ground.journal, ground.reports) == ("run-a", None, [])


def test_a_run_waits_for_the_workload_when_it_is_told_to(ground: Ground, held: Lease) -> None:
    ground.plant(planted_suite())
    held.release()
    ended = ground.run("--hotfire-wait", "20s")
    assert ended.decided[0] == "CONFIRM" and ground.ended_well


def test_a_run_that_did_not_end_keeps_the_next_one_out(ground: Ground) -> None:
    body = Body(run="run-a", namespace=ground.namespace, mode=Mode.CERTIFY, workloads=(WORKLOAD,), soak_s=0, within_s=9)
    journal = Journal.open(ground.cluster, ground.namespace, body)
    journal.record(DeleteAdded.of(Ref("v1", "Service", ground.namespace, "tiny")))
    before = journal.live
    ground.plant(planted_suite())
    refused(ground, ground.run(), "run run-a left deployment/tiny", "hotfire abort --namespace")
    assert ground.journal is not None and ground.journal.live == before
    assert holder_of(ground.cluster, ground.namespace, WORKLOAD) == "" and ground.reports == []


def test_a_run_that_died_before_it_changed_anything_is_closed_by_the_next(ground: Ground) -> None:
    """As SIGKILL leaves it: a journal, a Lease that nobody renews, and nothing else."""
    body = Body(run="run-a", namespace=ground.namespace, mode=Mode.CERTIFY, workloads=(WORKLOAD,), lease_s=1, soak_s=0)
    Journal.open(ground.cluster, ground.namespace, body)
    Lease.take(ground.cluster, ground.namespace, [WORKLOAD], "run-a", 1)._stop.set()
    ground.plant(planted_suite())
    refused(ground, ground.run(), f"{WORKLOAD} in {ground.namespace} is held by run run-a since")
    ended = ground.run("--hotfire-wait", "20s")
    assert "run run-a died OPEN and had changed nothing: closing its journal" in ended.output
    assert ended.decided[0] == "CONFIRM" and ground.ended_well


def test_an_api_server_that_is_away_is_one_line(ground: Ground, tmp_path: Path) -> None:
    document: Object = json.loads(ground.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    ground.kubeconfig = tmp_path / "away"
    ground.kubeconfig.write_text(json.dumps(document))
    ground.plant(planted_suite())
    ended = ground.run()
    refused(ground, ended, "unreachable")
    assert len(errors(ended)) == 1 and ground.left == []


def test_after_a_rehearsal_that_failed_nothing_more_is_done_to_the_candidate(ground: Ground) -> None:
    """The way back is hotfire's own: no NO_GO, and no load or fault without one."""
    declared = {"rollback": {"within": "20s", "soak": "0s", "rehearse": True}}
    ground.plant(planted_suite("raise Breach('not back')", row="rollback.rehearsed", when="rollback.rehearse"), declared)
    ended = ground.run()
    assert (ended.code, ended.verdict["verdict"], ended.check("rollback.rehearsed")["blame"]) == (21, "INCONCLUSIVE", "harness")
    assert ended.check("behaviour.contract[tiny]")["outcome"] == "PASS"
    assert {ended.check(name)["reason"] for name in ("drill.way-back", "drill.returns")} == {"blocked"} and ground.ended_well


def test_certify_does_not_go_where_its_objects_are(ground: Ground) -> None:
    meta = {"name": "tiny", "namespace": ground.namespace}
    ground.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})
    ground.plant(planted_suite())
    refused(ground, ground.run(), f"{ground.namespace} already holds service/tiny")
    assert ground.left == []


def test_a_promote_on_a_certificate_of_another_candidate_is_refused(ground: Ground) -> None:
    ground.plant(planted_suite(), {"mode": "promote", "certified": "verdict.json"})
    certificate = {"verdict": "GO", "candidate_digest": "0" * 64, "accelerators": "simulated", "gates": []}
    (ground.folder / "verdict.json").write_text(json.dumps(certificate))
    refused(ground, ground.run(), "it is for the candidate 000000000000", "it does not say when it ended")
    assert ground.left == []


def test_a_scenario_with_every_mistake_gets_every_line_and_no_cluster(ground: Ground) -> None:
    ground.plant(planted_suite(), {"slos": [{"metric": "ttftt", "p95": "< 1s"}]})
    ground.kubeconfig = ground.folder / "none"
    refused(ground, ground.run(), "'ttftt' is unknown, nearest allowed: ttft")


def test_the_same_candidate_again_is_a_run_of_its_own(ground: Ground) -> None:
    """Nothing of the first run is taken for the second's: it is judged anew, and its own record says so."""
    ground.plant(planted_suite())
    first = ground.run()
    ground.plant(planted_suite("raise ZeroDivisionError"))
    second = ground.run()
    assert first.folder != second.folder and len(ground.reports) == 2
    found = [(one.check(ROW)["outcome"], one.check(ROW)["reason"]) for one in (first, second)]
    assert found == [("PASS", None), ("INVALID", "foreign-exception")]
    assert first.verdict["candidate_digest"] == second.verdict["candidate_digest"]


def test_a_promote_to_live_users_without_a_watchdog_is_refused(ground: Ground) -> None:
    ground.plant(planted_suite(), {"mode": "promote", "certified": "none"})
    refused(ground, ground.run(), "promote where users are served needs the watchdog")


# -- what the cluster must hold already -------------------------------------------------------------------------------


@pytest.fixture
def simulating(ground: Ground) -> Iterator[None]:
    """A node as the embedded stand has them, without a kubelet."""
    key, value = SIMULATED_NODES
    meta = {"name": f"sim-{ground.namespace}", "labels": {key: value}}
    node = ground.cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": meta})
    yield
    ground.cluster.delete(Ref.of(node), uid=node["metadata"]["uid"])


def test_simulated_nodes_earn_no_certificate_for_real_accelerators(ground: Ground, simulating: None) -> None:
    ground.plant(planted_suite(), {"stand": {"namespace": ground.namespace}})
    ended = ground.run()
    refused(ground, ended, f"node sim-{ground.namespace} simulates its accelerators", "not real")
    assert len(errors(ended)) == 1 and "scenario.yaml:" in errors(ended)[0] and ground.left == []


NEEDED = """\
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: hotfire-NAMESPACE, labels: {tier: serving}}
value: 1000
---
apiVersion: v1
kind: Secret
metadata: {name: shared}
stringData: {token: never-shown-to-anybody}
"""


def test_what_is_under_prerequisites_is_compared_and_never_written(ground: Ground) -> None:
    cluster, name, folder = ground.cluster, f"hotfire-{ground.namespace}", ground.folder / "manifests" / "prerequisites"
    ground.plant(planted_suite())
    folder.mkdir()
    (folder / "all.yaml").write_text(NEEDED.replace("NAMESPACE", ground.namespace))
    refused(
        ground, ground.run(), f"all.yaml:1:1: priorityclass/{name} is not there", "all.yaml:6:1: secret/shared is not there"
    )
    meta = {"name": name, "labels": {"tier": "batch"}}
    made = cluster.create({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta, "value": 1000})
    meta = {"name": "shared", "namespace": ground.namespace}
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"other": "too"}})
    ended = ground.run()
    refused(ground, ended, "metadata.labels.tier: 'batch' is there, 'serving' is expected", "data.token: missing")
    assert len(errors(ended)) == 2 and "never-shown" not in ended.output and ground.left == []
    cluster.delete(Ref.of(made), uid=made["metadata"]["uid"])

"""The whole chain on real kubelets: each verdict, exit code and end, judged by kubectl and a plain request, not by hotfire."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from tests.place import SCENARIO, Place, deployment, service

LOAD = yaml.safe_load(SCENARIO)["load"]
LONG = {"slos": [{"metric": "e2e", "p95": "< 1s"}]}  # a load of 18 s: what ends a run after 5 s of it finds it at work
REPORTS = ("certificate.html", "junit.xml", "record.jsonl", "verdict.json", "allure-results")


def judged(folder: Path | None, *options: str) -> "subprocess.CompletedProcess[str]":
    """A run's folder, once more and offline."""
    return subprocess.run([sys.executable, "-m", "hotfire.cli", "judge", str(folder), *options], capture_output=True, text=True)


FAULTS = [
    {"name": "one-pod-gone", "kill": "one pod", "serving_again_within": "40s", "errors": "< 20%"},
    {"name": "out-of-memory", "oom": "one container", "serving_again_within": "40s", "errors": "< 20%"},
]


def test_a_sound_candidate_is_confirmed(place: Place, new) -> None:
    ended = place.run(service(), new(), scenario={"faults": FAULTS})
    assert (ended.code, ended.verdict["verdict"]) == (0, "GO"), ended.output
    assert place.ask().startswith("new") and place.lease() == ""
    assert {one["effect"] for one in ended.verdict["faults"]} == {"EFFECT_CONFIRMED"}
    assert ended.check("scheduling.isolation")["outcome"] == "PASS"
    assert all((ended.folder / name).exists() for name in REPORTS) and "simulated" in ended.output  # type: ignore[operator]
    again = judged(ended.folder)
    assert again.returncode == 0, again.stdout


def test_a_slow_candidate_is_rolled_back_by_its_objective(place: Place, new) -> None:
    before = place.serving()
    ended = place.run(service(), new("--ttft", "1200ms"))
    assert (ended.code, ended.check("load.slo[e2e-p80]")["blame"]) == (20, "candidate"), ended.output
    assert place.serving() == before and before["answers"].startswith("old")
    served = ended.verdict["restored"]["served"]  # both pods are replaced at once
    assert (
        served["ready"] == {"tiny": 0}
        and served["failed"]
        and f"questions failed, at most {served['longest_s']:.1f} s" in ended.output
    )


def test_a_candidate_that_is_oom_killed_at_start_is_rolled_back(place: Place, new) -> None:
    before = place.serving()
    ended = place.run(service(), new("--memory", "256Mi"))
    assert ended.code == 20 and ended.check("startup.within")["blame"] == "candidate", ended.output
    assert "OOMKilled" in json.dumps(ended.check("startup.within")) and place.serving() == before


def test_pods_that_have_read_the_old_configuration_are_not_the_candidate(place: Place) -> None:
    """Only a ConfigMap is edited, in place: no pod starts anew, and the ones that pass every other check know nothing of it."""

    def reading(batch: str) -> list[Any]:
        settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"BATCH": batch}}
        workload = deployment(place.image, "--answer", "old old old old")
        workload["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
        return [settings, workload]

    place.apply(*reading("8"))
    place.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")
    pause(1.1)  # creation times are whole seconds
    ended = place.run(service(), *reading("16"))
    found = ended.check("deploy.exact")
    assert (ended.code, found["outcome"], found["blame"]) == (20, "FAIL", "candidate"), ended.output
    assert "2 pods were there before" in ended.output and "run on its old contents" in ended.output, ended.output
    assert place.kubectl("get", "configmap", "settings", "-o", "jsonpath={.data.BATCH}") == "8"


def test_an_older_deployment_is_never_taken_for_the_candidate(place: Place, new) -> None:
    """The old pods are Ready and answer all the while; the new ones never are, and that is what counts."""
    before = place.serving()
    ended = place.run(service(), new("--start-after", "300s", missing=1), scenario={"startup": {"ready_within": "6s"}})
    found = (ended.code, ended.verdict["verdict"], ended.check("startup.within")["blame"])
    assert found == (20, "NO_GO", "candidate"), ended.output
    assert ended.check("load.slo[e2e-p80]")["reason"] == "blocked" and place.serving() == before
    served = ended.verdict["restored"]["served"]
    assert (served["failed"], served["ready"]) == (0, {"tiny": 1}), served  # one old pod served on through the way back


def test_a_candidate_that_asks_for_what_no_node_has_is_to_blame(place: Place, new) -> None:
    before = place.serving()
    wrong = new()
    wrong["spec"]["template"]["spec"]["nodeSelector"] = {"accelerator": "tpu"}
    ended = place.run(service(), wrong)
    failed = next(one for one in ended.verdict["checks"] if one["outcome"] == "FAIL")
    assert failed["check"] in ("scheduling.within", "preflight.capacity") and place.serving() == before, ended.output


def test_a_fault_without_its_tool_is_invalid(place: Place, new) -> None:
    """The container has no shell on its PATH: nothing happens, and nothing that follows counts."""
    before = place.serving()
    bare = new()
    container = bare["spec"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "PATH", "value": "/nowhere"})
    container["command"] = ["/usr/bin/python3", "/app/server.py"]
    ended = place.run(service(), bare, scenario={"faults": FAULTS[1:]})
    checks = [ended.check(f"faults.{name}[out-of-memory]") for name in ("effect", "recovers", "errors")]
    found = {(one["outcome"], one["reason"]) for one in checks}
    assert ended.code == 21 and found == {("INVALID", "no-effect")}, ended.output
    assert place.serving() == before


def started(place: Place, command: list[str], until: str) -> "subprocess.Popen[str]":
    """The run as a process of its own, once it has said so much."""
    log = place.folder / "output.txt"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, text=True)
    deadline = time.monotonic() + 60
    while until not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
        pause(0.1)
    assert until in log.read_text(), log.read_text()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_sigterm_restores_and_never_exits_0(place: Place, new, number: signal.Signals) -> None:
    before = place.serving()
    process = started(place, place.command(service(), new(), scenario=LONG), "load: ")
    process.send_signal(number)
    process.wait(90)
    ended = place.ended(process.returncode, (place.folder / "output.txt").read_text())
    found = (ended.code, ended.verdict["verdict"], ended.verdict["record"]["interrupted"])
    assert found == (21, "INCONCLUSIVE", True), ended.output
    assert place.serving() == before and place.lease() == ""


def hotfire(place: Place, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hotfire.cli", *words, "--kubeconfig", place.kubeconfig, "--namespace", place.name]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_killed_run_refuses_the_next_until_abort_restores(place: Place, new) -> None:
    before = place.serving()
    process = started(place, place.command(service(), new(), scenario=LONG), "load: ")
    process.kill()
    process.wait()
    refused = place.run(service(), new())
    assert refused.code == 4 and "held by run" in refused.output, refused.output
    pause(4)  # the Lease of the dead run runs out
    refused = place.run(service(), new())
    assert refused.code == 4 and "hotfire abort" in refused.output and "Traceback" not in refused.output
    aborted = hotfire(place, "abort")
    assert aborted.returncode == 21, aborted.stdout + aborted.stderr
    again = hotfire(place, "resume")
    assert place.serving() == before and "nothing to do" in again.stdout and again.returncode == 0


def test_an_inference_and_an_embedding_api_roll_out_together(place: Place, new, tiny: str) -> None:
    serves = [
        {"workload": "deployment/tiny", "service": "tiny", "runtime": "tiny", "model": "m"},
        {"workload": "deployment/embed", "service": "embed", "runtime": "tiny", "model": "m", "api": "embeddings"},
    ]
    embed = deployment(tiny, name="embed", replicas=1)
    scenario = {"candidate": {"manifests": "manifests/", "serves": serves}, "load": {**LOAD, "to": "embed"}}
    ended = place.run(service(), new(), service("embed"), embed, scenario=scenario)
    assert (ended.code, ended.check("behaviour.contract[embed]")["outcome"]) == (0, "PASS"), ended.output
    assert "load objectives to deployment/embed, look 1" in ended.output


def test_certify_in_a_namespace_of_its_own_leaves_nothing_of_it(place: Place, new, cluster: Cluster, gone: str, own) -> None:
    before = place.serving()
    ended = place.run(service(), new(), scenario=own)
    assert (ended.code, ended.verdict["verdict"]) == (0, "GO"), ended.output
    assert cluster.find(Ref("v1", "Namespace", "", gone)) is None and place.serving() == before
    drill = [event["state"] for event in ended.events if event["type"] == "changed"][3:-1]
    assert drill == ["RESTORING", "RESTORED", "APPLYING", "TESTING"] and ended.check("drill.returns")["outcome"] == "PASS"
    proofs = [event for event in ended.events if event["type"] == "proved" and event["of"] == "drill"]
    assert len(proofs) == 12 and {event["result"] for event in proofs} == {"PROVEN", "NOT_APPLICABLE"}


KIND = """#!/bin/sh
echo "$*" >> "$KIND_LOG"
case "$1 $2" in "create cluster") while [ "$1" != --kubeconfig ]; do shift; done; cat "$KIND_GIVES" > "$2";; esac
"""


@pytest.fixture
def kind(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a `kind` whose clusters are the stand; kubectl is the stand's."""
    bin_folder, log = place.folder / "bin", place.folder / "kind.log"
    bin_folder.mkdir()
    (bin_folder / "kind").write_text(KIND)
    (bin_folder / "kind").chmod(0o755)
    (bin_folder / "kubectl").symlink_to(place.kubectl_file)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KIND_LOG", str(log))
    monkeypatch.setenv("KIND_GIVES", place.kubeconfig)
    return log


def test_a_cluster_of_a_provider_is_made_for_the_run_and_deleted_after(place: Place, new, own, kind: Path) -> None:
    command = place.command(service(), new(), scenario=own)
    at = command.index("--kubeconfig")
    command[at : at + 2] = ["--provider", "kind", "--load-image", "tiny:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0 and "GO (exit 0)" in done.stdout, done.stdout + done.stderr
    created, loaded, deleted = kind.read_text().splitlines()
    assert created.startswith("create cluster --name pytest-hotfire") and deleted == "delete cluster --name pytest-hotfire"
    assert loaded == "load docker-image tiny:1 --name pytest-hotfire"


def test_bad_input_is_said_before_a_provider_makes_a_cluster(place: Place, new, kind: Path) -> None:
    command = [*place.command(service(), new(), scenario={"slos": []}), "--provider", "kind"]
    both = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert both.returncode == 4 and "not with --kubeconfig" in both.stderr
    at = command.index("--kubeconfig")
    alone = subprocess.run(command[:at] + command[at + 2 :], capture_output=True, text=True, timeout=60, check=False)
    assert alone.returncode == 4 and "slos" in alone.stderr and not kind.exists(), alone.stderr


def test_a_namespace_that_the_run_did_not_make_is_never_deleted(place: Place, new, cluster: Cluster, gone: str, own) -> None:
    """The same name under another UID: somebody deleted the run's namespace and made one of their own."""
    command = place.command(service(), new(), scenario={**own, **LONG})
    process = started(place, command, "load: ")
    ref = Ref("v1", "Namespace", "", gone)
    first = cluster.get(ref)["metadata"]["uid"]
    cluster.delete(ref, uid=first)
    while cluster.find(ref) is not None:
        pause(0.2)
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": gone}})
    process.wait(120)
    assert process.returncode in (20, 21, 22) and cluster.get(ref)["metadata"]["uid"] != first

"""The whole chain on real kubelets: each verdict, exit code and end, judged by kubectl and a plain request, not by hotfire."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from hotfire.stand.images import pull_secret, push
from tests.planted_run import Ended

SCENARIO = """
apiVersion: hotfire/v1
kind: Scenario
name: tiny
about: a test of the whole chain
mode: promote
users: none
candidate: {manifests: manifests/, serves: [{workload: deployment/tiny, service: tiny, runtime: tiny, model: m}]}
stand: {namespace: NAMESPACE, accelerators: simulated}
scheduling:
  {devices: {nvidia.com/gpu: 1}, nodes: {accelerator: gpu}, tolerates: ["ai.workload=inference:NoSchedule"], within: 20s}
startup: {ready_within: 40s}
secrets: [{name: hf-token, key: token, as: env HF_TOKEN}, {pull: registry}]
load: {arrivals: spaced 200ms, warm_up: 2, max_tokens: 4, timeout: 8s}
slos: [{metric: e2e, p80: "< 1s"}, {metric: errors, ratio: "< 20%"}]
rollback: {within: 60s, soak: 1s}
lock: {lease: 6s}
"""
LOAD = yaml.safe_load(SCENARIO)["load"]
LONG = {"slos": [{"metric": "e2e", "p95": "< 1s"}]}  # a load of 18 s: what ends a run after 5 s of it finds it at work
TAINT = {"key": "ai.workload", "operator": "Equal", "value": "inference", "effect": "NoSchedule"}
REPORTS = ("certificate.html", "junit.xml", "record.jsonl", "verdict.json", "allure-results")


def service(name: str = "tiny") -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def deployment(
    image: str, *flags: str, name: str = "tiny", memory: str = "96Mi", replicas: int = 2, missing: int = 2
) -> dict[str, Any]:
    """missing: how many pods a rollout may take away at once; all of them is quicker than one by one."""
    probe = {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1}
    container = {
        "name": "server", "image": image, "args": ["--model", "m", "--port", "8080", *flags],
        "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token"}}}],
        "ports": [{"containerPort": 8080}], "readinessProbe": probe,
        "resources": {"requests": {"cpu": "20m", "memory": memory}, "limits": {"memory": memory, "nvidia.com/gpu": 1}},
    }  # fmt: skip
    pod = {
        "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1, "containers": [container],
        "nodeSelector": {"accelerator": "gpu"}, "tolerations": [TAINT], "imagePullSecrets": [{"name": "registry"}],
    }  # fmt: skip
    spec = {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": missing}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


@dataclass
class Place:
    """A namespace with a baseline, the tools of its owner, and runs into it."""

    name: str
    kubeconfig: str
    kubectl_file: str
    image: str
    folder: Path

    def kubectl(self, *words: str, given: str | None = None) -> str:
        command = [self.kubectl_file, "--kubeconfig", self.kubeconfig, "-n", self.name, *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=True).stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def command(self, *objects: Mapping[str, Any], scenario: Mapping[str, Any] | None = None) -> list[str]:
        manifests = self.folder / "manifests"
        manifests.mkdir(exist_ok=True)
        (manifests / "all.yaml").write_text(yaml.safe_dump_all(objects))
        data = yaml.safe_load(SCENARIO.replace("NAMESPACE", self.name)) | dict(scenario or {})
        (self.folder / "scenario.yaml").write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
        reports = ["--kubeconfig", self.kubeconfig, "--reports", str(self.folder / "reports")]
        return [sys.executable, "-m", "hotfire.cli", "run", str(self.folder / "scenario.yaml"), *reports]

    def run(self, *objects: Mapping[str, Any], scenario: Mapping[str, Any] | None = None) -> Ended:
        command = self.command(*objects, scenario=scenario)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        return self.ended(ended.returncode, ended.stdout + ended.stderr)

    def ended(self, code: int, output: str) -> Ended:
        folders = sorted((self.folder / "reports").glob("tiny-*"), key=os.path.getmtime)
        return Ended(code, output, folders[-1] if folders else None)

    def serving(self) -> Mapping[str, Any]:
        """What serves now: the Deployment's spec, the digests its pods run, what is around it, and an answer."""
        live = json.loads(self.kubectl("get", "deployment", "tiny", "-o", "json"))
        pods = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        images = [(one["imageID"], pod["status"]["phase"]) for pod in pods for one in pod["status"]["containerStatuses"]]
        others = self.kubectl("get", "deploy,svc,secret,cm", "-o", "name").split()
        return {
            "spec": live["spec"],
            "pods": sorted(images),
            "objects": [one for one in others if not (one.startswith("configmap/hotfire-") and "deployment-" in one)],
            "answers": self.ask(),
        }  # fmt: skip

    def ask(self) -> str:
        spec = json.loads(self.kubectl("get", "service", "tiny", "-o", "json"))["spec"]
        asked = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/v1/chat/completions"
        said = httpx.post(url, json=asked, timeout=20, trust_env=False).raise_for_status().json()
        return str(said["choices"][0]["message"]["content"])

    def lease(self) -> str:
        found = json.loads(self.kubectl("get", "lease", "hotfire-deployment-tiny", "-o", "json"))
        return str(found["spec"].get("holderIdentity") or "")


def judged(folder: Path | None) -> "subprocess.CompletedProcess[str]":
    """A run's folder, once more and offline."""
    return subprocess.run([sys.executable, "-m", "hotfire.cli", "judge", str(folder)], capture_output=True, text=True)


@pytest.fixture(scope="session")
def tiny(embedded, terminal) -> str:
    """The tiny image in the stand's registry, by digest."""
    return push(embedded.registry, "tiny", terminal)


@pytest.fixture
def place(embedded, namespace, tiny, tmp_path) -> Iterator[Place]:
    """A baseline that says `old`, applied by kubectl. Its devices are free again for the next test."""
    name = str(namespace["metadata"]["name"])
    made = Place(name, str(embedded.kubeconfig), str(embedded.kubectl), tiny, tmp_path)
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hf-token"},
        "stringData": {"token": "hf_" + "a1b2c3d4" * 3},
    }
    made.apply(token, pull_secret(embedded.registry, "registry"), service(), deployment(tiny, "--answer", "old old old old"))
    made.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")
    yield made
    made.kubectl("delete", "deployments,pods", "--all", "--cascade=foreground", "--timeout=60s")


@pytest.fixture
def new(tiny) -> Callable[..., dict[str, Any]]:
    return lambda *flags, **more: deployment(tiny, "--answer", "new new new new", *flags, **more)


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
    pause(8)  # the Lease of the dead run runs out
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


@pytest.fixture
def gone(cluster: Cluster) -> Iterator[str]:
    """A name that no namespace has; what has it afterwards is taken away."""
    name = f"own-{time.monotonic_ns() % 10**9}"
    yield name
    live = cluster.find(Ref("v1", "Namespace", "", name))
    if live is not None:
        cluster.delete(Ref.of(live), uid=live["metadata"]["uid"])


@pytest.fixture
def own(place: Place, gone: str) -> dict[str, Any]:
    """What makes the scenario a certify in a namespace of its own."""
    stand = {"namespace": gone, "create": True, "secrets_from": place.name, "accelerators": "simulated"}
    return {"stand": stand, "mode": "certify", "users": None}


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

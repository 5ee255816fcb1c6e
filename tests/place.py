"""A namespace of the stand with a baseline that its owner applied, and runs into it; the next is made while a test runs."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import yaml

from hotfire.kube.client import Cluster
from hotfire.stand.embedded.lifecycle import Running
from hotfire.stand.images import pull_secret
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
lock: {lease: 3s}
"""
TAINT = {"key": "ai.workload", "operator": "Equal", "value": "inference", "effect": "NoSchedule"}


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
        return self.go(self.command(*objects, scenario=scenario))

    def go(self, command: list[str]) -> Ended:
        """A run by this command, to its end."""
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

    def ready(self) -> None:
        self.kubectl("rollout", "status", "deployment/tiny", "--timeout=60s")

    def lease(self) -> str:
        found = json.loads(self.kubectl("get", "lease", "hotfire-deployment-tiny", "-o", "json"))
        return str(found["spec"].get("holderIdentity") or "")


class Places:
    """Namespaces with a baseline that says `old`, applied by kubectl."""

    def __init__(self, embedded: Running, cluster: Cluster, image: str) -> None:
        self.embedded, self.cluster, self.image = embedded, cluster, image
        self.pool = ThreadPoolExecutor(1)
        self.next = self.pool.submit(self.make)

    def make(self) -> Place:
        name, registry = f"t-{uuid.uuid4().hex[:10]}", self.embedded.registry
        self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        made = Place(name, str(self.embedded.kubeconfig), str(self.embedded.kubectl), self.image, Path())
        meta = {"name": "hf-token"}
        token = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"token": "hf_" + "a1b2c3d4" * 3}}
        baseline = deployment(self.image, "--answer", "old old old old")
        made.apply(token, pull_secret(registry, "registry"), service(), baseline)
        made.ready()
        return made

    @contextmanager
    def one(self, folder: Path) -> Iterator[Place]:
        """folder: for what its runs write."""
        coming, self.next = self.next, self.pool.submit(self.make)  # also when this one could not be made
        made = replace(coming.result(), folder=folder)
        made.ready()  # a node may have gone since
        yield made
        self.leave(made)

    def leave(self, place: Place) -> None:
        self.cluster.raw("DELETE", f"/api/v1/namespaces/{place.name}")

    def end(self) -> None:
        """The one that nobody took goes too, if the stand is still there."""
        self.pool.shutdown()
        if self.embedded.kubeconfig.exists():
            self.leave(self.next.result())

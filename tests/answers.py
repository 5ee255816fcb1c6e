"""An API server that answers what a test wrote: for what no real one can be brought to say without kubelets and a scheduler."""

import base64
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient, Configuration

from hotfire.kube.client import Cluster, Object
from hotfire.rollout.population import REVISION
from hotfire.rollout.probes import RUN_LABEL
from hotfire.scenario.model import Located, Scenario

NAMESPACE = "n"
CORE, APPS = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/apps/v1/namespaces/{NAMESPACE}"
KINDS = {
    "/api/v1": {"Pod": "pods", "Event": "events", "Secret": "secrets", "Node": "nodes"},
    "/apis/apps/v1": {"Deployment": "deployments", "ReplicaSet": "replicasets"},
}
ANCHOR: Object = {"metadata": {"name": "anchor", "uid": "u", "labels": {RUN_LABEL: "tiny-run-abc123"}}}


def status(code: int, reason: str, message: str) -> tuple[int, str]:
    """A refusal of the API server's own."""
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}
    return code, json.dumps(said)


def listed(*items: Object) -> tuple[int, str]:
    return 200, json.dumps({"metadata": {"resourceVersion": "1"}, "items": items})


@dataclass
class Answers:
    """said: path, without its query -> status and body. becomes: what a pod that is created turns into at once."""

    said: dict[str, tuple[int, str]] = field(default_factory=dict)
    becomes: Object = field(default_factory=dict)
    made: list[Object] = field(default_factory=list)
    cluster: Any = None

    def get(self, target: str) -> tuple[int, str]:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if "watch" in query:
            return 200, ""
        if "fieldSelector" in query:
            return listed(*self.made)
        return self.said.get(path, status(404, "NotFound", f"{path} not found"))

    def create(self, obj: Object) -> tuple[int, str]:
        obj["metadata"]["uid"] = str(uuid.uuid4())
        self.made.append({**obj, **self.becomes, "spec": {**obj["spec"], **self.becomes.get("spec", {})}})
        return 201, json.dumps(obj)

    def keep(self, value: str) -> None:
        """The Secret hf-token/token."""
        encoded = base64.b64encode(value.encode()).decode()
        self.said[f"{CORE}/secrets/hf-token"] = 200, json.dumps({"data": {"token": encoded}})

    def serving(self, *pods: Object) -> None:
        """The Deployment `tiny` with these pods, all of its newest template."""
        revision = {"annotations": {REVISION: "1"}}
        owner = {"name": "tiny", "uid": "d", "generation": 1, **revision}
        self.said[f"{APPS}/deployments/tiny"] = (
            200,
            json.dumps({"metadata": owner, "spec": {"replicas": len(pods)}, "status": {"observedGeneration": 1}}),
        )
        self.said[f"{APPS}/replicasets"] = listed({"metadata": {"name": "tiny-1", "uid": "r", **revision, **_owned("d")}})
        self.said[f"{CORE}/pods"] = listed(*pods)


def _owned(uid: str) -> Object:
    return {"ownerReferences": [{"uid": uid, "controller": True}]}


def pod(name: str, node: str = "gpu-1", *ports: int) -> Object:
    """One container of it serves, with its ports declared."""
    container = {"name": "server", "image": "i", "ports": [{"containerPort": port} for port in ports or (8080,)]}
    meta = {"name": name, "namespace": NAMESPACE, "uid": name, **_owned("r")}
    state = {"name": "server", "restartCount": 0, "state": {"running": {}}}
    return {
        "metadata": meta, "spec": {"nodeName": node, "containers": [container]}, "status": {"containerStatuses": [state]},
    }  # fmt: skip


def located(runtime: str = "tiny", **more: object) -> Located:
    """A scenario of one Deployment, and no file of it."""
    serves = {"workload": "deployment/tiny", "service": "tiny", "runtime": runtime, "model": "m"}
    base = {"apiVersion": "hotfire/v1", "kind": "Scenario", "name": "a", "about": "a", "stand": {"namespace": NAMESPACE}}
    scenario = Scenario.model_validate({**base, "candidate": {"serves": [serves]}, **more})
    template = {"spec": {"containers": [{"name": "server", "image": "i"}]}}
    manifest: Mapping[str, Any] = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "tiny"}, "spec": {"template": template},
    }  # fmt: skip
    return Located(scenario=scenario, path=Path(), objects=(manifest,), digest="")


@contextmanager
def answering() -> Iterator[Answers]:
    """On 127.0.0.1, for the length of the block."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(*answers.get(self.path))

        def do_POST(self) -> None:
            self.reply(*answers.create(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def do_DELETE(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(200, "{}")

        def reply(self, code: int, body: str) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None: ...

    for path, kinds in KINDS.items():
        resources = [{"kind": kind, "name": plural, "namespaced": kind != "Node"} for kind, plural in kinds.items()]
        answers.said[path] = 200, json.dumps({"resources": resources})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    configuration = Configuration(host=f"http://127.0.0.1:{server.server_port}")
    configuration.retries = False
    answers.cluster = Cluster(ApiClient(configuration), "by hand", timeout=5)
    yield answers
    server.shutdown()
    server.server_close()

"""A real API server over a real etcd, alone: no controllers, no nodes. It speaks on 127.0.0.1 and dies with the session.

A pytest plugin, so that all tiers of one process share one; a conftest registers it with `share`.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from hotfire.kube.client import Cluster, Object
from hotfire.kube.wait import pause
from hotfire.stand.embedded import build
from hotfire.stand.embedded.patience import until
from hotfire.stand.embedded.pki import Authority

PEOPLE = {"admin": "system:masters", "reader": "readers"}  # user -> group; the password is the user's name


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _stopped(pid: int) -> bool:
    try:
        return all("State:\tT" in (one / "status").read_text() for one in Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # a thread that has just ended
        return False


@dataclass
class ControlPlane:
    """etcd and kube-apiserver as children of the test process."""

    folder: Path
    binaries: Mapping[str, Path]
    port: int = field(default_factory=free_port)
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        authority = Authority(self.folder / "pki")
        self.serving = authority.issue("apiserver", "apiserver", serves=["127.0.0.1", "localhost"])
        self.authority, self.key = authority.file, authority.service_account_key()
        tokens = [f"{user},{user},{user},{group}" for user, group in PEOPLE.items()]
        (self.folder / "tokens.csv").write_text("\n".join(tokens) + "\n")
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.etcd = client
        self.run(
            "etcd", f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}", "--log-level=warn",
        )  # fmt: skip
        self.start_api()

    def start_api(self) -> None:
        self.run(
            "kube-apiserver", f"--etcd-servers={self.etcd}", "--bind-address=127.0.0.1", f"--secure-port={self.port}",
            f"--tls-cert-file={self.serving.cert}", f"--tls-private-key-file={self.serving.key}",
            f"--token-auth-file={self.folder}/tokens.csv", "--authorization-mode=RBAC", "--anonymous-auth=false",
            "--service-cluster-ip-range=198.19.0.0/24", "--endpoint-reconciler-type=none", "--profiling=false",
            f"--service-account-key-file={self.key}", f"--service-account-signing-key-file={self.key}",
            "--service-account-issuer=https://kubernetes.default.svc", "--disable-admission-plugins=ServiceAccount",
            "--max-requests-inflight=400",
        )  # fmt: skip

    def run(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            argv = [str(self.binaries[name]), *arguments]
            self.children[name] = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill_api(self) -> None:
        self.children["kube-apiserver"].send_signal(signal.SIGKILL)
        self.children["kube-apiserver"].wait()

    def freeze_api(self) -> None:
        """Return once it has stopped: on a busy machine its other threads answer for a moment longer."""
        child = self.children["kube-apiserver"]
        child.send_signal(signal.SIGSTOP)
        until("every thread of the API server has stopped", lambda: _stopped(child.pid), 5)

    def thaw_api(self) -> None:
        self.children["kube-apiserver"].send_signal(signal.SIGCONT)

    def compact(self) -> None:
        """Move etcd on by one revision and forget all before it."""
        put = httpx.post(f"{self.etcd}/v3/kv/put", json={"key": "aGY=", "value": ""}).raise_for_status().json()
        body = {"revision": put["header"]["revision"], "physical": True}
        httpx.post(f"{self.etcd}/v3/kv/compaction", json=body).raise_for_status()

    def wait_ready(self, within: float = 60) -> Cluster:
        """The admin's client once the server says it is ready."""
        for _ in range(int(within / 0.2)):
            try:
                cluster = Cluster.connect(str(self.kubeconfig("admin")), timeout=1)
                if cluster.text("GET", "/readyz", timeout=1) == "ok":
                    cluster.timeout = 10
                    return cluster
            except Exception as error:  # noqa: BLE001 - whatever it is, the log says more
                seen = error
            pause(0.2)
        raise AssertionError(f"{seen}\n{(self.folder / 'kube-apiserver.log').read_text()[-3000:]}")

    def kubeconfig(self, user: str) -> Path:
        path = self.folder / f"{user}.kubeconfig"
        document: Object = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": user,
            "clusters": [
                {
                    "name": "here",
                    "cluster": {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.authority)},
                }
            ],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": user, "context": {"cluster": "here", "user": user, "namespace": "default"}}],
        }
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        return path

    def stop(self) -> None:
        for child in self.children.values():
            child.kill()
            child.wait()


def binaries() -> Mapping[str, Path]:
    """The stand's own etcd and kube-apiserver, built on first use."""
    needed = [component for component in build.COMPONENTS if component.name in ("etcd", "kubernetes")]
    return {use: build.build(part, sys.stderr.write) / file for part in needed for use, file in part.binaries.items()}


def let(cluster: Cluster, namespace: str, rule: Object) -> None:
    """The owner grants the user `reader` one rule in a namespace."""
    group, meta = "rbac.authorization.k8s.io", {"name": "some", "namespace": namespace}
    cluster.create({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": [rule]})
    bound = {"subjects": [{"kind": "User", "name": "reader", "apiGroup": group}]}
    to = {"roleRef": {"kind": "Role", "name": "some", "apiGroup": group}}
    cluster.create({"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": meta, **bound, **to})


def share(config: pytest.Config) -> None:
    """Register this module's fixtures once."""
    if not config.pluginmanager.has_plugin("hotfire-control-plane"):
        config.pluginmanager.register(sys.modules[__name__], "hotfire-control-plane")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("control-plane")
    plane = ControlPlane(folder, binaries())
    try:
        plane.start()
        plane.wait_ready()
        yield plane
    finally:
        plane.stop()

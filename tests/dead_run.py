"""A run in TESTING on the session's API server, which can die as SIGKILL leaves it, and watchdogs of it as processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from hotfire.journal.entries import DeleteAdded, PutBack
from hotfire.journal.journal import Body, Journal
from hotfire.journal.lease import Lease
from hotfire.journal.store import Stored, keep
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.restore import anchor_name
from hotfire.words import Mode, State

LLAMA, T = "deployment/llama", 1.5
NOT_ASKED = dict.fromkeys(("target", "function", "stability"), "a test")


def configmap(namespace: str, name: str, labels: Object | None = None, **data: str) -> Object:
    meta = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


@dataclass
class Scene:
    """A run in TESTING that edited `settings` and added `added`; watchdogs of it as processes."""

    cluster: Cluster
    kubeconfig: str
    namespace: str
    journal: Journal
    lease: Lease
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def settings(self) -> Object:
        return self.cluster.get(Ref("v1", "ConfigMap", self.namespace, "settings"))

    @property
    def batch(self) -> str:
        return str(self.settings()["data"]["BATCH"])

    def added(self) -> Object | None:
        return self.cluster.find(Ref("v1", "ConfigMap", self.namespace, "added"))

    def read(self) -> Journal:
        found = Journal.read(self.cluster, self.namespace, LLAMA)
        assert found is not None
        return found

    def watchdog(self, name: str = "dog-a", until: str = "watching run") -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "hotfire.rollout.watchdog", "--kubeconfig", self.kubeconfig, "--home", self.namespace]
        command += ["--journal", self.journal.ref.name, "--run", "run-a"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "POD_NAME": name})
        self.started.append(process)
        if until:
            self.said(process, until)
        return process

    def said(self, process: "subprocess.Popen[str]", words: str) -> None:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if words in line:
                return
        raise AssertionError("".join(lines))

    def dies(self) -> None:
        """As SIGKILL leaves it: held, never renewed, never released."""
        self.lease._stop.set()
        self.lease.held = []

    def ended(self, process: "subprocess.Popen[str]", within: float = 25) -> str:
        out, _ = process.communicate(timeout=within)
        assert process.returncode == 0, out
        return out


@pytest.fixture
def scene(control_plane, cluster: Cluster, namespace: str) -> Iterator[Scene]:
    kubeconfig = str(control_plane.kubeconfig("admin"))
    lease = Lease.take(cluster, namespace, (LLAMA,), "run-a", T)
    settings = cluster.create(configmap(namespace, "settings", BATCH="8"))
    body = Body(
        run="run-a", namespace=namespace, mode=Mode.PROMOTE, workloads=(LLAMA,), lease_s=T, soak_s=0, within_s=10, watchdog="j"
    )
    journal = Journal.open(cluster, namespace, body)
    keep(journal, Stored([settings]), not_applicable=NOT_ASKED)
    for state in (State.ARMED, State.APPLYING):
        journal.move(state, by="run-a")
    anchor = cluster.create(configmap(namespace, anchor_name("run-a"), {RUN_LABEL: "run-a"}))
    ref = Ref("v1", "ConfigMap", namespace, "settings")
    journal.record(
        PutBack.of(ref, uid=settings["metadata"]["uid"]),
        DeleteAdded.of(Ref.of({**anchor, "metadata": {**anchor["metadata"], "name": "added"}})),
    )
    cluster.create(configmap(namespace, "added", {RUN_LABEL: "run-a"}))
    cluster.replace({**settings, "data": {"BATCH": "16"}})
    journal.move(State.TESTING, by="run-a")
    made = Scene(cluster, kubeconfig, namespace, journal, lease)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    lease.release()


def restored(scene: Scene) -> bool:
    return scene.batch == "8" and scene.added() is None

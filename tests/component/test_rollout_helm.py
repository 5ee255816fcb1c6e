"""The way back under the real Helm, on a real API server: its release, its fields, and its next upgrade are as before."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotfire.journal.store import owed
from hotfire.kube.client import Ref
from hotfire.rollout.helm import names
from hotfire.rollout.proof import Finding, Scene, closure
from hotfire.rollout.restore import Restore
from hotfire.rollout.rollout import Rollout
from hotfire.rollout.waiting import undeployed
from hotfire.scenario.loader import load
from hotfire.words import Proof, State
from tests.component.test_rollout_waiting import release
from tests.helm import binary
from tests.planted_run import MANIFESTS, Ground, planted_suite

PIPELINE = {"mode": "promote", "users": "none", "rollout": {"by": "pipeline"}}


@pytest.fixture(scope="session")
def file() -> Path:
    return binary()


@dataclass
class Helm:
    """A chart of the manifests, whose number of replicas is a value."""

    ground: Ground
    file: Path

    def __post_init__(self) -> None:
        templates = self.ground.folder / "chart" / "templates"
        templates.mkdir(parents=True)
        (templates.parent / "Chart.yaml").write_text("apiVersion: v2\nname: tiny\nversion: 0.1.0\n")
        text = MANIFESTS.replace("  selector: {matchLabels", "  replicas: {{ .Values.replicas }}\n  selector: {matchLabels")
        (templates / "all.yaml").write_text(text)
        self.ground.plant(planted_suite(), PIPELINE)

    def __call__(self, word: str, *words: str) -> str:
        where = ["-n", self.ground.namespace, "--kubeconfig", str(self.ground.kubeconfig)]
        env = {"HOME": str(self.ground.folder), "PATH": os.environ["PATH"]}
        command = [str(self.file), word, "tiny", *words, *where]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def deploy(self, word: str, replicas: int, *more: str) -> str:
        return self(word, str(self.ground.folder / "chart"), "--set", f"replicas={replicas}", *more)

    @property
    def history(self) -> list[tuple[int, str]]:
        return [(one["revision"], one["status"]) for one in json.loads(self("history", "-o", "json"))]

    @property
    def replicas(self) -> int:
        live = self.ground.cluster.get(Ref("apps/v1", "Deployment", self.ground.namespace, "tiny"))
        return int(live["spec"]["replicas"])

    def armed(self, replicas: int) -> Rollout:
        """For this candidate, up to the pipeline's turn."""
        rendered = self.deploy("template", replicas)
        (self.ground.folder / "manifests" / "all.yaml").write_text(rendered)
        located = load(self.ground.folder / "scenario.yaml")
        rollout = Rollout.open(self.ground.cluster, located, self.ground.namespace, "run-a", emit=lambda event: None)
        rollout.arm(can_ask=False)
        rollout.journal.record(*rollout._armed().undo())
        for state in (State.WAITING, State.TESTING):
            rollout.journal.move(state, by="run-a")
        return rollout


def restored(rollout: Rollout) -> Finding:
    """The way back, gone once; whether it is as before then."""
    journal = rollout.journal
    journal.move(State.RESTORING, by="run-a", why="a gate failed", **undeployed(journal))
    back = Restore(journal, owed(journal), rollout.lease.guard)
    assert back.go() and back.go() == []
    rollout.lease.release()
    return closure(Scene.of_old(journal, back.stored, None, lambda: None))


@pytest.fixture
def helm(ground: Ground, file: Path) -> Iterator[Helm]:
    yield Helm(ground, file)


SIDES = pytest.mark.parametrize("side", ["--server-side=true", "--server-side=false"])


@SIDES
def test_what_it_upgraded_is_as_asked_for_and_restored_as_if_it_never_had(helm: Helm, side: str) -> None:
    helm.deploy("install", 0, side)
    rollout = helm.armed(3)
    helm.deploy("upgrade", 3)
    assert rollout.differences() == (2, []) and helm.history == [(1, "superseded"), (2, "deployed")]
    assert restored(rollout).result is Proof.PROVEN
    assert helm.history == [(1, "deployed")] and helm.replicas == 0 and "STATUS: deployed" in helm("status")
    helm.deploy("upgrade", 2)
    assert helm.history == [(1, "superseded"), (2, "deployed")] and helm.replicas == 2


@SIDES
def test_what_it_installed_first_is_gone_with_its_release_and_no_other_is(helm: Helm, side: str) -> None:
    helm.ground.cluster.create(release(helm.ground.namespace, 1, "deployed"))
    rollout = helm.armed(0)
    helm.deploy("install", 0, side)
    assert rollout.differences() == (2, [])
    assert restored(rollout).result is Proof.PROVEN and names(helm.ground.cluster, helm.ground.namespace) == ["llama"]
    helm.deploy("install", 0, side)
    assert helm.history == [(1, "deployed")]

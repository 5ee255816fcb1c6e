"""A watchdog that sleeps in the middle of restoring, and whoever follows it, on a real API server: one of them writes."""

import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from hotfire.kube.client import Conflict
from hotfire.kube.wait import pause
from hotfire.rollout.armed import ByWatchdog, ask
from hotfire.rollout.fence import LABEL
from hotfire.rollout.settle import Settling
from hotfire.words import State
from tests.dead_run import Scene, T, restored
from tests.neighbour import neighbour

until = neighbour("tests/component/test_rollout_watchdog").until
ASLEEP = """
import os, signal, sys
from hotfire.kube.client import ApiError, Cluster, Ref
from hotfire.rollout import watchdog
at, *words = sys.argv[1:]
real, slept = Cluster.replace, []

def replace(self, obj, **more):
    meta, data = obj["metadata"], obj.get("data") or {}
    due = meta["name"] == "settings" if at == "its first write" else '"done":1' in data.get("journal", "")
    if due and not slept:
        slept.append(at)
        settings = self.get(Ref("v1", "ConfigMap", meta["namespace"], "settings"))
        print("prepared", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            real(self, {**settings, "data": {"BATCH": "stale"}})
            print("the prepared write landed", flush=True)
        except ApiError as error:
            print(f"the prepared write: {type(error).__name__}", flush=True)
    return real(self, obj, **more)

Cluster.replace = replace
sys.exit(watchdog.main(words))
"""


def asleep(scene: Scene, at: str) -> "subprocess.Popen[str]":
    """A watchdog that was asked to restore, and stopped with a write at hand."""
    words = ["--kubeconfig", scene.kubeconfig, "--home", scene.namespace, "--journal", scene.journal.ref.name, "--run", "run-a"]
    process = subprocess.Popen([sys.executable, "-c", ASLEEP, at, *words], stdout=subprocess.PIPE, text=True)
    scene.started.append(process)
    scene.said(process, "watching run")
    ask(scene.journal, "ROLL_BACK", "a gate failed")
    scene.said(process, "prepared")
    assert (scene.read().state, scene.read().body.n, scene.read().body.done) == (State.RESTORING, 1, 0)
    return process


def written(scene: Scene) -> Mapping[str, str]:
    """Everything that a write would move on: the closure, what was added, the journal and what lies beside it."""
    found = scene.cluster.list("v1", "ConfigMap", scene.namespace)
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in found}


@pytest.mark.parametrize("at", ["its first write", "its last word"])
def test_its_heir_makes_worthless_what_it_has_prepared_and_it_stops(scene, at):
    first = asleep(scene, at)
    scene.watchdog("dog-b")
    until(lambda: scene.read().body.done == 2)
    before = written(scene)
    first.send_signal(signal.SIGCONT)
    out, _ = first.communicate(timeout=10)
    assert "the prepared write: Conflict" in out and first.returncode == 1, out
    assert restored(scene) and written(scene) == before and LABEL not in scene.settings()["metadata"].get("labels", {})
    assert (scene.read().body.n, scene.read().body.by) == (2, "watchdog/dog-b")


@pytest.mark.parametrize(("at", "changed"), [("its first write", {"BATCH": "later"}), ("its last word", {})])
def test_the_run_that_takes_over_makes_worthless_what_it_has_prepared_and_it_stops(scene, at, changed):
    """It looks at the journal before it goes on, and leaves what is not as it was to the run."""
    first = asleep(scene, at)
    settling = Settling(scene.journal, scene.lease.guard, lambda event: None, "run-a", ByWatchdog("run-a"), of="rehearsal")
    settling.rehearse()
    assert restored(scene) and (scene.read().body.n, scene.read().body.by) == (2, "run-a")
    if changed:
        scene.cluster.replace({**scene.settings(), "data": changed})
    before = written(scene)
    first.send_signal(signal.SIGCONT)
    scene.said(first, "the prepared write")  # that it landed would be seen below
    pause(2 * T)
    assert written(scene) == before and first.poll() is None


def test_a_container_that_begins_again_follows_the_one_before_it_in_its_pod(scene):
    scene.journal.move(State.RESTORING, by="watchdog/dog-b", why="ROLL_BACK")
    stale = scene.settings()
    scene.watchdog("dog-b")
    until(lambda: scene.read().body.done == 2)
    assert restored(scene)
    with pytest.raises(Conflict):
        scene.cluster.replace(stale)


def test_whoever_follows_one_that_was_done_leaves_it_at_that(scene):
    """The run is proving it meanwhile, and alone may move the journal on."""
    scene.journal.move(State.RESTORING, by="watchdog/dog-x", why="ROLL_BACK")
    scene.journal.write(done=1)
    before = written(scene)
    process = scene.watchdog("dog-b")
    pause(2 * T)
    assert process.poll() is None and written(scene) == before

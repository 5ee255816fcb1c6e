"""The watchdog's rules on a real API server: what makes it restore, what does not, and who wins. Its loop is a process."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from hotfire.errors import LeaseLost
from hotfire.gates.decision import Ending, verdict
from hotfire.journal.lease import Lease, holder_of
from hotfire.kube.client import Conflict, Ref
from hotfire.kube.wait import pause
from hotfire.record.events import Changed, Decided, Judged, Opened, Planned, PlannedCheck, Seen
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.rollout.armed import ByWatchdog, ask
from hotfire.rollout.fence import LABEL
from hotfire.rollout.fence import fence as write_fence
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.restore import anchor_name
from hotfire.rollout.settle import Settling
from hotfire.rollout.takeover import abort
from hotfire.rollout.watchdog import lease_ref
from hotfire.words import Decision, Mode, Outcome, State, Verdict
from tests.dead_run import LLAMA, Scene, T, restored


def until(condition: Callable[[], object], within: float = 15) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        pause(0.1)


def loses(lease: Lease) -> bool:
    try:
        lease.guard()
    except LeaseLost:
        return True
    return False


def test_while_the_run_lives_and_asks_for_nothing_it_only_watches(scene):
    process = scene.watchdog()
    pause(3 * T)
    assert process.poll() is None and scene.read().state is State.TESTING and scene.batch == "16"
    scene.lease.guard()


def test_a_dead_run_is_restored_proven_and_leaves_a_tombstone_alone(scene):
    process = scene.watchdog()
    scene.dies()
    said = scene.ended(process)
    journal = scene.read()
    assert restored(scene) and journal.ended, said
    assert (journal.state, journal.body.last_verdict) == (State.RESTORED, "INCONCLUSIVE")
    assert set(journal.body.proofs) >= {"closure", "residue", "idempotence"} and "ran out" in said
    names = {obj["metadata"]["name"] for obj in scene.cluster.list("v1", "ConfigMap", scene.namespace)}
    assert names - {"kube-root-ca.crt"} == {journal.ref.name, "settings"} and LABEL not in scene.settings()["metadata"].get(
        "labels", {}
    )
    assert holder_of(scene.cluster, scene.namespace, LLAMA) == ""
    assert scene.cluster.find(lease_ref(scene.namespace, journal.ref.name)) is None


def test_a_deaf_api_server_is_no_dead_run(control_plane, scene):
    process = scene.watchdog()
    control_plane.freeze_api()
    pause(2 * T)
    control_plane.thaw_api()
    pause(3 * T)
    assert process.poll() is None and scene.read().state is State.TESTING


def test_asked_it_writes_and_the_living_run_proves(scene):
    process = scene.watchdog()
    events: list[object] = []
    settling = Settling(scene.journal, scene.lease.guard, events.append, "run-a", ByWatchdog("run-a"))
    ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    assert (ending.state, ending.unproven) == (State.RESTORED, []) and restored(scene)
    moves = [(event.state, event.by) for event in events if isinstance(event, Changed)]
    assert moves == [(State.RESTORING, "watchdog/dog-a"), (State.RESTORED, "run-a")]
    scene.lease.release()
    assert "has ended" in scene.ended(process)


def rehearsal(scene: Scene, events: list[object]) -> Settling:
    executor = ByWatchdog("run-a")
    return Settling(scene.journal, scene.lease.guard, events.append, "run-a", executor, of="rehearsal")


def test_a_rehearsal_is_carried_out_by_the_watchdog_which_goes_on_watching(scene):
    process = scene.watchdog()
    events: list[object] = []
    assert rehearsal(scene, events).rehearse().safe and restored(scene)
    moves = [(event.state, event.by, event.why) for event in events if isinstance(event, Changed)]
    assert moves == [(State.RESTORING, "watchdog/dog-a", "rehearsal"), (State.RESTORED, "run-a", "rehearsal")]
    pause(2 * T)
    assert process.poll() is None and scene.read().state is State.RESTORED
    scene.journal.move(State.APPLYING, by="run-a")
    scene.cluster.replace({**scene.settings(), "data": {"BATCH": "16"}})
    scene.journal.move(State.TESTING, by="run-a")
    scene.dies()
    scene.ended(process)
    assert restored(scene) and scene.read().ended


def test_a_run_that_dies_right_after_a_rehearsal_is_restored_by_the_watchdog(scene):
    process = scene.watchdog()
    assert rehearsal(scene, []).rehearse().safe
    scene.cluster.replace({**scene.settings(), "data": {"BATCH": "16"}})
    scene.dies()
    scene.ended(process)
    assert restored(scene) and scene.read().ended


def test_a_rehearsal_that_the_run_had_to_carry_out_itself_fails(scene):
    """The watchdog is gone: what would be needed in a disaster was not there."""
    ending = rehearsal(scene, []).rehearse()
    assert restored(scene) and not ending.safe and ending.unproven == ["j did not restore, the run had to do it itself"]
    settling = Settling(scene.journal, scene.lease.guard, lambda event: None, "run-a", ByWatchdog("run-a"))
    assert settling.settle(Decision.ROLL_BACK, "the rehearsal failed").safe and scene.read().ended


def test_nobody_takes_it_up_and_the_run_restores_itself(scene):
    began = time.monotonic()
    settling = Settling(scene.journal, scene.lease.guard, lambda event: None, "run-a", ByWatchdog("run-a"))
    assert settling.settle(Decision.ROLL_BACK, "a gate failed").unproven == [] and restored(scene)
    assert time.monotonic() - began >= 5 and scene.journal.body.asked == "ROLL_BACK"


def test_handed_over_and_dead_it_restores_proves_and_ends(scene):
    process = scene.watchdog()
    ask(scene.journal, "HANDED_OVER", "SIGTERM")
    scene.dies()
    scene.ended(process)
    assert restored(scene) and scene.read().body.last_verdict == "INCONCLUSIVE"


def test_settle_by_is_absolute_even_for_a_run_that_lives(scene, tmp_path):
    by = scene.cluster.server_time() + timedelta(seconds=3)
    scene.journal.write(settle_by=by.isoformat())
    said = scene.ended(scene.watchdog())
    assert restored(scene) and "not settled by" in said
    until(lambda: loses(scene.lease))  # at its next renewal
    recorder = recording(tmp_path)
    settling = Settling(scene.journal, scene.lease.guard, recorder.emit, "run-a", ByWatchdog("run-a"))
    ending = settling.settle(Decision.CONFIRM, "all passed")
    assert ending.state is State.RESTORED and ending.safe
    reached, because = verdict(recorder.entries, Ending.of(recorder.entries, closing=True))
    recorder.abandon()
    assert (reached, reached.exit_code) == (Verdict.INCONCLUSIVE, 21), because


def recording(folder: Path) -> Recorder:
    """The record of run-a up to its decision to confirm."""
    recorder = Recorder(folder / "record.jsonl", Redactor())
    words = {"scenario": "s", "about": "a", "baseline": "b", "accelerators": "simulated", "stand": "s", "way_back": "w"}
    words |= {"scenario_digest": "d", "candidate_digest": "c", "users": "none", "version": "0", "run": "run-a"}
    recorder.emit(Opened(mode=Mode.PROMOTE, namespace="n", **words))
    recorder.emit(Planned(checks=(PlannedCheck(id="startup.population", suite="s", question="q", evidence="1 pod"),)))
    recorder.emit(Changed(state=State.TESTING, by="run-a", why="the candidate is deployed"))
    recorder.emit(Seen(check="startup.population", noun="pod", count=1))
    recorder.emit(Judged(check="startup.population", outcome=Outcome.PASS))
    recorder.emit(Decided(decision=Decision.CONFIRM, because=("all 1 required checks passed",)))
    return recorder


def test_after_confirmed_it_only_cleans_up(scene):
    process = scene.watchdog()
    scene.journal.move(State.CONFIRMED, by="run-a", confirmed="head")
    scene.dies()
    scene.ended(process)
    left = scene.added()
    assert scene.batch == "16" and left is not None and RUN_LABEL not in left["metadata"].get("labels", {})
    assert scene.read().ended and scene.read().state is State.CONFIRMED


def test_it_frees_the_lease_of_a_run_that_died_when_all_was_done(scene):
    process = scene.watchdog()
    scene.journal.move(State.CONFIRMED, by="run-a", confirmed="head")
    scene.journal.write(settled=True)
    pause(T)
    assert process.poll() is None and holder_of(scene.cluster, scene.namespace, LLAMA)
    scene.dies()
    scene.ended(process)
    assert not holder_of(scene.cluster, scene.namespace, LLAMA) and scene.read().ended


def test_of_two_watchdogs_one_acts_and_the_other_follows_it(scene):
    first = scene.watchdog("dog-a")
    second = scene.watchdog("dog-b", until="")
    pause(2 * T)
    first.send_signal(signal.SIGKILL)
    scene.said(second, "watching run")
    scene.dies()
    scene.ended(second)
    assert restored(scene)


def test_restoring_is_taken_from_a_watchdog_that_died_in_it(scene):
    scene.journal.move(State.RESTORING, by="watchdog/dog-x", why="ROLL_BACK")
    scene.watchdog()
    until(lambda: scene.read().body.done == 2)
    assert restored(scene) and scene.read().body.by == "watchdog/dog-a" and scene.read().state is State.RESTORING


def test_the_run_takes_over_from_a_watchdog_that_dies_while_it_watches(scene):
    process = scene.watchdog()
    process.send_signal(signal.SIGSTOP)
    scene.journal.move(State.RESTORING, by="watchdog/dog-a", why="ROLL_BACK")
    settling = Settling(scene.journal, scene.lease.guard, lambda event: None, "run-a", ByWatchdog("run-a"))
    assert settling.settle(Decision.ROLL_BACK, "x").unproven == [] and restored(scene) and scene.journal.body.n == 2
    process.send_signal(signal.SIGCONT)


def test_a_write_prepared_before_the_takeover_answers_409(scene):
    stale = scene.settings()
    scene.dies()
    journal = scene.read()
    journal.move(State.RESTORING, by="watchdog/dog-a")
    assert sorted(write_fence(journal, lambda: None)) == ["configmap/added", "configmap/settings"]
    assert scene.settings()["metadata"]["labels"][LABEL] == "1"
    assert scene.cluster.find(Ref("v1", "ConfigMap", scene.namespace, anchor_name("run-a"))) is None
    with pytest.raises(Conflict):
        scene.cluster.replace({**stale, "data": {"BATCH": "32"}})


def test_abort_waits_for_the_watchdog_and_says_how_it_ended(scene):
    scene.watchdog()
    scene.dies()
    told: list[str] = []
    ending = abort(scene.cluster, scene.namespace, tell=told.append)
    assert ending.safe and restored(scene), told


PAUSED = """
import json, os, signal, sys
from hotfire.journal.journal import Journal
from hotfire.journal.lease import Lease
from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
kubeconfig, namespace = sys.argv[1:]
cluster = Cluster.connect(kubeconfig)
lease = Lease.take(cluster, namespace, ("deployment/llama",), "run-a", 1.5)
live = cluster.get(Ref("v1", "ConfigMap", namespace, "settings"))
lease.guard()
print("prepared", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
said = []
for call in (lambda: cluster.replace({**live, "data": {"BATCH": "stale"}}), lease.guard):
    try:
        call()
        said.append("done")
    except Exception as error:
        said.append(type(error).__name__)
print(json.dumps(said), flush=True)
"""


def test_a_harness_that_was_paused_before_a_write_lands_nothing_when_it_wakes(scene):
    scene.lease.release()
    command = [sys.executable, "-c", PAUSED, scene.kubeconfig, scene.namespace]
    harness = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    scene.started.append(harness)
    scene.said(harness, "prepared")
    scene.ended(scene.watchdog())
    assert restored(scene)
    harness.send_signal(signal.SIGCONT)
    out, _ = harness.communicate(timeout=10)
    write, guard = json.loads(out)
    assert write == "Conflict" and guard in ("NotRenewed", "LeaseLost") and restored(scene)

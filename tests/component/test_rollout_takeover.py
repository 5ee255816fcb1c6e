"""What is done for a run that is dead, on a real API server: by `abort` and `resume`, by the next run, by nobody else."""

import json
import time

import pytest

from hotfire.errors import Damaged, Refused
from hotfire.journal.journal import Body, Journal
from hotfire.journal.lease import Lease, holder_of
from hotfire.journal.store import Stored, keep
from hotfire.kube.client import Ref
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.restore import anchor_name
from hotfire.rollout.status import describe
from hotfire.rollout.takeover import abort, make_way, resume
from hotfire.rollout.watchdog import lease_ref
from hotfire.words import Mode, State, Verdict
from tests.dead_run import LLAMA, NOT_ASKED, Scene, T, configmap, restored


@pytest.fixture
def told() -> list[str]:
    return []


def way(scene: Scene, told: list[str], wait_s: float) -> float:
    return make_way(scene.cluster, scene.namespace, [LLAMA], scene.namespace, "run-b", wait_s, told.append)


def test_resume_takes_restoring_from_a_dead_executor_and_proves(scene, told):
    scene.journal.move(State.RESTORING, by="watchdog/dog-x", why="ROLL_BACK")
    scene.dies()
    ending = resume(scene.cluster, scene.namespace, tell=told.append)
    assert ending.verdict is Verdict.INCONCLUSIVE and ending.unproven == [] and restored(scene), told
    assert (scene.read().body.n, scene.read().ended) == (2, True) and holder_of(scene.cluster, scene.namespace, LLAMA) == ""
    assert resume(scene.cluster, scene.namespace, tell=told.append) is None and "nothing to do" in told[-1]


@pytest.mark.parametrize("command", [abort, resume])
def test_for_a_mistyped_workload_it_says_what_is_not_ended_here_and_leaves_it_alone(scene, told, command):
    scene.dies()
    before, holder = scene.read().live, holder_of(scene.cluster, scene.namespace, LLAMA)
    assert command(scene.cluster, scene.namespace, "lama", tell=told.append) is None
    assert told == [told[0]] and told[0].endswith(f"nothing to do; not ended here: run run-a on {LLAMA}")
    assert scene.read().live == before and holder_of(scene.cluster, scene.namespace, LLAMA) == holder == "run-a"


@pytest.mark.parametrize("command", [abort, resume])
def test_a_living_run_is_never_taken_over(scene, told, command):
    scene.journal.write(watchdog="")
    before = scene.journal.live
    with pytest.raises(Refused, match=r"deployment/llama .* is held by run run-a since"):
        command(scene.cluster, scene.namespace, tell=told.append)
    scene.lease.guard()
    assert scene.read().live == before and scene.batch == "16"


def test_what_was_confirmed_is_closed_by_abort_unsafe_and_says_what_would_know_more(scene, told):
    scene.journal.move(State.CONFIRMED, by="run-a", confirmed="head")
    scene.dies()
    assert abort(scene.cluster, scene.namespace, tell=told.append).verdict is Verdict.UNSAFE
    assert "in its record alone: `hotfire settle RUN` closes it" in told[-1] and scene.batch == "16"
    assert (scene.read().ended, scene.read().body.last_verdict) == (True, "UNSAFE")


def test_beside_a_living_run_what_a_dead_one_left_is_restored(scene, told):
    scene.dies()
    body = Body(run="run-x", namespace=scene.namespace, mode=Mode.PROMOTE, workloads=("deployment/other",), lease_s=1)
    Journal.open(scene.cluster, scene.namespace, body)
    held = Lease.take(scene.cluster, scene.namespace, ["deployment/other"], "run-x", 1)
    with held, pytest.raises(Refused, match=r"deployment/other .* is held by run run-x"):
        abort(scene.cluster, scene.namespace, tell=told.append)
    assert restored(scene) and scene.read().ended


def test_while_its_watchdog_restores_resume_waits_for_it(scene, told):
    scene.watchdog()
    scene.dies()
    ending = resume(scene.cluster, scene.namespace, tell=told.append)
    assert ending.verdict is Verdict.INCONCLUSIVE and restored(scene) and "was ended RESTORED by its watchdog" in told[-1], told


def test_what_was_confirmed_is_not_resumed(scene, told):
    scene.journal.move(State.CONFIRMED, by="run-a", confirmed="head")
    scene.dies()
    with pytest.raises(Refused, match="run run-a confirmed deployment/llama: `hotfire settle reports/run-a`"):
        resume(scene.cluster, scene.namespace, tell=told.append)
    assert scene.batch == "16" and scene.read().state is State.CONFIRMED


@pytest.mark.parametrize("command", [abort, resume])
def test_a_damaged_entry_is_shown_and_what_is_whole_is_restored_all_the_same(scene, told, command):
    scene.dies()
    body = Body(run="run-x", namespace=scene.namespace, mode=Mode.PROMOTE, workloads=("deployment/other",))
    other = Journal.open(scene.cluster, scene.namespace, body)
    damaged = json.loads(body.model_dump_json()) | {"entries": [{"op": "run-this", "code": "rm"}]}
    scene.cluster.replace({**other.live, "data": {"journal": json.dumps(damaged)}})
    with pytest.raises(Damaged, match=r"hotfire-deployment-other is damaged at entries.0: .*run-this.*"):
        command(scene.cluster, scene.namespace, tell=told.append)
    assert restored(scene) and scene.read().ended


def test_a_journal_of_another_version_is_refused_and_left_alone(scene, told):
    scene.dies()
    later = json.loads(scene.journal.body.model_dump_json()) | {"version": "hotfire/journal/v2"}
    scene.cluster.replace({**scene.journal.live, "data": {"journal": json.dumps(later)}})
    with pytest.raises(Refused, match="has version 'hotfire/journal/v2', 'hotfire/journal/v1' is understood") as refused:
        resume(scene.cluster, scene.namespace, tell=told.append)
    assert not isinstance(refused.value, Damaged) and scene.batch == "16"


# -- the next run ----------------------------------------------------------------------------------------------------


def test_the_next_run_waits_for_a_watchdog_that_restores_and_says_for_whom(scene, told):
    scene.dies()
    scene.journal.move(State.RESTORING, by="watchdog/dog-a", why="ROLL_BACK")
    own = {lease_ref(scene.namespace, scene.journal.ref.name): "the watch"}
    says = r"restored by the watchdog dog-a for run run-a since .*: wait for it"
    with Lease.take_named(scene.cluster, own, "dog-a", T), pytest.raises(Refused, match=says):
        way(scene, told, T)
    assert len(told) == 1 and "waiting: deployment/llama" in told[0] and "the watchdog dog-a for run run-a" in told[0]
    assert scene.batch == "16"


def test_once_the_watchdog_is_done_the_next_run_goes_on(scene, told):
    scene.watchdog()
    scene.dies()
    began = time.monotonic()
    assert way(scene, told, 30) <= 30 - (time.monotonic() - began) + 0.1
    assert restored(scene) and scene.read().ended and told[0].startswith("waiting: deployment/llama"), told


def test_a_run_that_changed_something_is_not_the_next_runs_to_restore(scene, told):
    scene.journal.write(watchdog="")
    scene.dies()
    way(scene, told, 20)
    assert scene.read().state is State.TESTING and scene.batch == "16"
    with pytest.raises(Refused, match="hotfire abort --namespace"):
        Journal.open(scene.cluster, scene.namespace, scene.journal.body)


@pytest.fixture
def armed(cluster, namespace) -> Journal:
    """A run that died when its way back was stored and nothing had been changed."""
    settings = cluster.create(configmap(namespace, "settings", BATCH="8"))
    Lease.take(cluster, namespace, (LLAMA,), "run-a", 1)._stop.set()
    body = Body(run="run-a", namespace=namespace, mode=Mode.PROMOTE, workloads=(LLAMA,), lease_s=1, soak_s=0, within_s=10)
    journal = Journal.open(cluster, namespace, body)
    keep(journal, Stored([settings]), not_applicable=NOT_ASKED)
    cluster.create(configmap(namespace, anchor_name("run-a"), {RUN_LABEL: "run-a"}))
    journal.move(State.ARMED, by="run-a")
    return journal


def test_what_its_owner_changed_since_a_run_died_unchanging_stays(cluster, namespace, armed, told):
    settings = cluster.get(Ref("v1", "ConfigMap", namespace, "settings"))
    cluster.replace({**settings, "data": {"BATCH": "9"}})
    make_way(cluster, namespace, [LLAMA], namespace, "run-b", 10, told.append)
    left = {obj["metadata"]["name"]: obj for obj in cluster.list("v1", "ConfigMap", namespace)}
    assert left.keys() - {"kube-root-ca.crt"} == {"settings", armed.ref.name} and left["settings"]["data"] == {"BATCH": "9"}
    assert armed.body.run == "run-a" and Journal.read(cluster, namespace, LLAMA).ended


# -- status ----------------------------------------------------------------------------------------------------------


def test_status_says_who_is_at_it_and_then_what_the_next_command_is(scene):
    assert describe(scene.cluster, scene.namespace)[0].endswith("NOT ENDED: run-a is at it: wait for it")
    scene.lease.release()
    assert f"nobody is at it: `hotfire abort --namespace {scene.namespace}`" in describe(scene.cluster, scene.namespace)[0]
    scene.journal.move(State.RESTORING, by="run-a", why="ROLL_BACK")
    assert f"nobody is at it: `hotfire resume --namespace {scene.namespace}`" in describe(scene.cluster, scene.namespace)[0]
    with Lease.take_named(scene.cluster, {lease_ref(scene.namespace, scene.journal.ref.name): "x"}, "dog-a", T):
        assert "the watchdog dog-a is at it: wait for it" in describe(scene.cluster, scene.namespace)[0]


def test_status_of_what_was_confirmed_names_its_settling(scene):
    scene.journal.move(State.CONFIRMED, by="run-a", confirmed="head")
    scene.lease.release()
    assert "`hotfire settle reports/run-a`" in describe(scene.cluster, scene.namespace)[0]

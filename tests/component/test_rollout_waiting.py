"""A run that waits for its pipeline, on a real API server: who holds its Lease, and what ends it. The watchdog is a process."""

from datetime import timedelta

import pytest

from hotfire.errors import Refused
from hotfire.journal.entries import DeleteAdded, PutBack, ReplacePods
from hotfire.journal.journal import Journal
from hotfire.journal.lease import holder_of
from hotfire.journal.store import Stored, keep
from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.settle import Settling
from hotfire.rollout.status import describe
from hotfire.rollout.takeover import abort
from hotfire.rollout.waiting import hand_over, take_back
from hotfire.words import Decision, State
from tests.component.test_rollout_watchdog import loses, until
from tests.dead_run import LLAMA, Scene, T, configmap, restored


@pytest.fixture
def waiting(scene: Scene) -> Scene:
    """Armed, with `settings` as it was and `added` not there; the pipeline's turn."""
    scene.cluster.replace({**scene.settings(), "data": {"BATCH": "8"}})
    added = scene.added()
    assert added is not None
    scene.cluster.delete(Ref.of(added), uid=added["metadata"]["uid"])
    stored = scene.settings()
    keep(scene.journal, Stored([stored], [Ref.of(added)]))
    scene.journal.write(state=State.ARMED, entries=())
    return scene


def hands_over(scene: Scene, within_s: float = 60) -> None:
    by = scene.cluster.server_time() + timedelta(seconds=within_s)
    ref = Ref("v1", "ConfigMap", scene.namespace, "settings")
    entries = (
        PutBack.of(ref, uid=scene.settings()["metadata"]["uid"]),
        DeleteAdded.of(Ref("v1", "ConfigMap", scene.namespace, "added"), pipelines=True),
    )
    hand_over(scene.journal, scene.lease, "for its pipeline", entries, deploy_by=by.isoformat())


def pipeline_deploys(scene: Scene) -> None:
    """Without any label or Lease of hotfire's."""
    scene.cluster.replace({**scene.settings(), "data": {"BATCH": "16"}})
    scene.cluster.create(configmap(scene.namespace, "added"))


def test_between_the_commands_the_watchdog_holds_the_lease_and_gives_it_back(waiting):
    process = waiting.watchdog()
    hands_over(waiting)
    assert holder_of(waiting.cluster, waiting.namespace, LLAMA) == "watchdog/dog-a"
    pause(3 * T)
    assert process.poll() is None and waiting.read().state is State.WAITING
    (line,) = describe(waiting.cluster, waiting.namespace)
    assert "NOT ENDED: `hotfire verify reports/run-a` once its pipeline has deployed" in line
    journal = waiting.read()
    with take_back(journal, "verify", deploy_by="") as lease:
        pause(3 * T)
        lease.guard()
        assert journal.state is State.TESTING and holder_of(waiting.cluster, waiting.namespace, LLAMA) == "run-a"
        assert process.poll() is None
        with pytest.raises(Refused, match="is TESTING, it does not wait"):
            take_back(waiting.read(), "verify")


def test_nobody_deploys_by_then_and_the_run_is_closed_with_nothing_written(waiting):
    process = waiting.watchdog()
    before = waiting.settings()
    hands_over(waiting, within_s=2)
    said = waiting.ended(process)
    journal = waiting.read()
    assert "nobody had deployed by" in said and waiting.settings() == before, said
    assert (journal.ended, journal.state, journal.body.last_verdict) == (True, State.RESTORED, "INCONCLUSIVE")
    assert holder_of(waiting.cluster, waiting.namespace, LLAMA) == ""


def test_what_the_pipeline_deployed_is_held_beyond_deploy_by_and_restored_at_settle_by(waiting):
    by = waiting.cluster.server_time() + timedelta(seconds=8)
    waiting.journal.write(settle_by=by.isoformat())
    process = waiting.watchdog()
    hands_over(waiting, within_s=1)
    pipeline_deploys(waiting)
    pause(3)
    assert process.poll() is None and waiting.read().state is State.WAITING and waiting.batch == "16"
    said = waiting.ended(process)
    assert "not settled by" in said and restored(waiting) and waiting.read().ended, said


def test_a_run_that_died_after_it_took_the_lease_back_is_restored(waiting):
    process = waiting.watchdog()
    hands_over(waiting)
    pipeline_deploys(waiting)
    take_back(waiting.read(), "verify", deploy_by="").leave()
    said = waiting.ended(process)
    assert "ran out" in said and restored(waiting) and waiting.read().state is State.RESTORED, said


def test_a_run_that_died_before_it_took_the_lease_back_is_restored(waiting):
    process = waiting.watchdog()
    hands_over(waiting)
    pipeline_deploys(waiting)
    waiting.read().move(State.TESTING, by="run-a", why="verify", deploy_by="")
    said = waiting.ended(process)
    assert "ran out" in said and restored(waiting) and waiting.read().state is State.RESTORED, said


def test_a_watchdog_that_dies_while_the_run_waits_is_followed(waiting):
    first = waiting.watchdog()
    second = waiting.watchdog("dog-b", until="")
    hands_over(waiting)
    first.kill()
    waiting.said(second, "watching run")
    until(lambda: holder_of(waiting.cluster, waiting.namespace, LLAMA) == "watchdog/dog-b")
    assert waiting.read().state is State.WAITING


def test_what_was_there_all_along_costs_no_pod_its_life(waiting):
    """Settled without a deploy: pods that might have read the candidate's configuration did not, and stay."""
    waiting.watchdog()
    waiting.journal.record(ReplacePods.of(Ref("apps/v1", "Deployment", waiting.namespace, "llama")))
    hands_over(waiting)
    journal = waiting.read()
    with take_back(journal, "settle") as lease:
        ending = Settling(journal, lease.guard, lambda event: None, "run-a").settle(Decision.ROLL_BACK, "nobody verified it")
    assert ending.safe and journal.untouched and waiting.batch == "8"


def test_a_run_that_waits_is_not_aborted_behind_its_watchdog(waiting, cluster: Cluster):
    waiting.watchdog()
    hands_over(waiting)
    with pytest.raises(Refused, match="waits"):
        abort(cluster, waiting.namespace, tell=lambda line: None)
    found = Journal.read(cluster, waiting.namespace, LLAMA)
    assert found is not None and found.state is State.WAITING and loses(waiting.lease)

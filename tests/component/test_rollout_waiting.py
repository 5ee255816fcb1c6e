"""A run that waits for its pipeline, on a real API server: who holds its Lease, and what ends it. The watchdog is a process."""

import base64
from datetime import timedelta

import pytest

from hotfire.errors import Refused
from hotfire.journal.entries import DeleteAdded, PutBack, ReplacePods
from hotfire.journal.journal import Journal
from hotfire.journal.lease import holder_of
from hotfire.journal.store import Stored, fetch, keep, new_key
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.helm import releases
from hotfire.rollout.proof import Scene as ProofScene
from hotfire.rollout.proof import closure
from hotfire.rollout.settle import Settling
from hotfire.rollout.status import describe
from hotfire.rollout.takeover import abort
from hotfire.rollout.waiting import as_before, hand_over, take_back
from hotfire.words import Decision, Proof, State
from tests.component.test_rollout_watchdog import loses, until
from tests.dead_run import LLAMA, Scene, T, configmap, restored


def release(namespace: str, revision: int, status: str) -> Object:
    """As Helm 3 writes it: SecretDriver of helm.sh/helm/v3/pkg/storage/driver."""
    labels = {"owner": "helm", "name": "llama", "version": str(revision), "status": status, "modifiedAt": str(revision)}
    meta = {"name": f"sh.helm.release.v1.llama.v{revision}", "namespace": namespace, "labels": labels}
    data = base64.b64encode(f"{revision} {status}".encode()).decode()
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "helm.sh/release.v1", "data": {"release": data}}


def of_helm(scene: Scene) -> dict[str, str]:
    found = scene.cluster.list("v1", "Secret", scene.namespace, labels="owner=helm")
    return {one["metadata"]["labels"]["version"]: base64.b64decode(one["data"]["release"]).decode() for one in found}


def marked(scene: Scene) -> Object:
    """`settings` as a release's."""
    mark = {"meta.helm.sh/release-name": "llama", "meta.helm.sh/release-namespace": scene.namespace}
    live = scene.settings()
    return scene.cluster.replace({**live, "metadata": {**live["metadata"], "annotations": mark}})


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


def test_after_a_rollback_helm_says_what_serves(waiting):
    """Revision 2 is what serves, 3 failed, 4 is the candidate's: the history before them is nobody's to put back."""
    cluster, space = waiting.cluster, waiting.namespace
    for revision, status in ((1, "superseded"), (2, "deployed"), (3, "failed")):
        cluster.create(release(space, revision, status))
    settings = marked(waiting)
    held = list(releases(cluster, space, [settings]))
    assert [one["metadata"]["labels"]["version"] for one in held] == ["2", "3"]
    keep(waiting.journal, Stored([settings, *held], key=new_key()))
    before, process = of_helm(waiting), waiting.watchdog()
    hands_over(waiting)
    assert as_before(waiting.read())
    cluster.create(release(space, 4, "pending-upgrade"))
    assert not as_before(waiting.read())
    live = cluster.get(Ref.of(held[0]))
    cluster.replace({**live, "data": release(space, 2, "superseded")["data"]})
    waiting.cluster.replace({**settings, "data": {"BATCH": "16"}})
    take_back(waiting.read(), "verify", deploy_by="").leave()
    said = waiting.ended(process)
    assert waiting.read().ended and of_helm(waiting) == before and waiting.batch == "8", said


def test_a_revision_that_is_left_is_no_proven_end(waiting):
    waiting.cluster.create(release(waiting.namespace, 2, "deployed"))
    (held,) = of = list(releases(waiting.cluster, waiting.namespace, [marked(waiting)]))
    keep(waiting.journal, Stored(of, key=new_key()))
    scene = ProofScene.of_old(waiting.read(), fetch(waiting.read()), None, lambda: None)
    assert closure(scene).result is Proof.PROVEN and held["type"] == "helm.sh/release.v1"
    waiting.cluster.create(release(waiting.namespace, 3, "pending-upgrade"))
    assert "v3 is there, a newer revision of its release" in closure(scene).evidence


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
    waiting.journal.write(within_s=1)  # abort is patient for twice as long
    hands_over(waiting)
    with pytest.raises(Refused, match="waits"):
        abort(cluster, waiting.namespace, tell=lambda line: None)
    found = Journal.read(cluster, waiting.namespace, LLAMA)
    assert found is not None and found.state is State.WAITING and loses(waiting.lease)

"""What is swept away and what never is, on a real API server: `hotfire sweep` beside runs that ended, died and live."""

import pytest
from click.testing import CliRunner

from hotfire.cli import main
from hotfire.errors import Damaged, Refused
from hotfire.journal.entries import DeleteNamespace
from hotfire.journal.journal import MANAGED, Body, Journal
from hotfire.journal.lease import API, Lease, holder_of
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.job import WATCHES
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.restore import anchor_name
from hotfire.rollout.sweep import sweep, sweep_all
from hotfire.rollout.takeover import abort
from hotfire.words import Mode, State
from tests.control_plane import let
from tests.dead_run import LLAMA, configmap

RUN = {RUN_LABEL: "run-a"}


class Left:
    """What run-a left in a namespace: an anchor, a Service of its own, and things that only look like it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace, self.told = cluster, namespace, list[str]()
        anchor = cluster.create(configmap(namespace, anchor_name("run-a"), RUN))
        self.owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": anchor["metadata"]["name"]}
        self.owner |= {"uid": anchor["metadata"]["uid"]}
        self.make("v1", "Service", "way-in", {"spec": {"ports": [{"port": 80}]}}, ownerReferences=[self.owner])
        self.make("v1", "ConfigMap", "copied", {"data": {"copied": "with its label"}})
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        self.make("v1", "PersistentVolumeClaim", "models", {"spec": claim}, ownerReferences=[self.owner])

    def make(self, api_version: str, kind: str, name: str, body: Object, **meta: object) -> Object:
        meta = {"name": name, "namespace": self.namespace, "labels": RUN, **meta}
        return self.cluster.create({"apiVersion": api_version, "kind": kind, "metadata": meta, **body})

    def journal(self, *, run: str = "run-a", ended: bool = True, **more: object) -> Journal:
        fields = {"run": run, "namespace": self.namespace, "mode": Mode.CERTIFY, "workloads": (LLAMA,), "lease_s": 1, **more}
        journal = Journal.open(self.cluster, self.namespace, Body.model_validate(fields))
        if ended:
            journal.write(state=State.RESTORED, settled=True)
        return journal

    def sweep(self, older_s: float = 0) -> list[str]:
        return sweep(self.cluster, self.namespace, older_s, tell=self.told.append)

    @property
    def there(self) -> set[str]:
        kinds = ("ConfigMap", "Service", "PersistentVolumeClaim", "Secret")
        found = [obj["metadata"]["name"] for kind in kinds for obj in self.cluster.list("v1", kind, self.namespace)]
        return set(found) - {"kube-root-ca.crt"}


@pytest.fixture
def left(cluster: Cluster, namespace: str) -> Left:
    return Left(cluster, namespace)


EVERYTHING = {anchor_name("run-a"), "way-in", "copied", "models"}


def test_each_thing_is_told_and_claims_and_copied_labels_stay(left):
    journal = left.journal()
    assert left.sweep() == [] and left.there == {"copied", "models", journal.ref.name}
    assert [line.split(" in ")[0] for line in left.told] == ["deleted service/way-in", "deleted configmap/hotfire-anchor-run-a"]
    left.told.clear()
    assert left.sweep() == [] and left.told == [f"{left.namespace}: nothing to do"]


def test_what_is_no_longer_the_runs_since_it_was_listed_stays(left, monkeypatch):
    left.journal()
    watch = {"spec": {"holderIdentity": "dog", "renewTime": "2026-01-01T00:00:00.000000Z"}}
    meta = {"name": "watchdog-other", "namespace": left.namespace, "labels": MANAGED}
    made = left.cluster.create({"apiVersion": API, "kind": "Lease", "metadata": meta, **watch})
    real, changes = left.cluster.delete, {
        "way-in": {"metadata": {"labels": {RUN_LABEL: None}}},
        "watchdog-other": {"spec": {"renewTime": "2099-01-01T00:00:00.000000Z"}},
    }  # fmt: skip

    def delete(ref: Ref, **more: object) -> None:
        if ref.name in changes:
            left.cluster.patch(ref, changes.pop(ref.name))
        real(ref, **more)

    monkeypatch.setattr(left.cluster, "delete", delete)
    assert left.sweep() == [] and "way-in" in left.there and left.cluster.find(Ref.of(made)) is not None
    assert [line.split(" in ")[0] for line in left.told] == ["deleted configmap/hotfire-anchor-run-a"] and changes == {}


def test_what_is_younger_stays(left):
    left.journal()
    assert left.sweep(3600) == [] and left.there >= EVERYTHING and "nothing to do" in left.told[0]


def test_of_a_run_that_has_not_ended_nothing_is_touched(left):
    left.journal(ended=False)
    before = left.there
    assert left.sweep() == [] and left.there == before
    assert left.told[0].startswith("run run-a has not ended, `hotfire abort --namespace")


def test_of_a_run_that_lives_nothing_is_touched_though_its_journal_is_gone(left):
    held = Lease.take(left.cluster, left.namespace, (LLAMA,), "run-a", 1)
    pause(1.2)
    assert left.sweep() == [] and left.there == EVERYTHING and "run run-a holds its Lease" in left.told[0]
    held.guard()
    held.release()


def test_a_run_that_died_without_a_journal_is_cleared_once_its_lease_is_seen_to_be_dead(left):
    Lease.take(left.cluster, left.namespace, (LLAMA,), "run-a", 1)._stop.set()
    pause(1.2)
    assert left.sweep() == [] and left.there == {"copied", "models"}
    assert left.told[0].startswith("freed lease/hotfire-deployment-llama") and not holder_of(
        left.cluster, left.namespace, LLAMA
    )


def test_what_a_finalizer_holds_is_said_and_is_exit_22(left, control_plane):
    left.journal()
    made = left.make("v1", "ConfigMap", "held", {}, ownerReferences=[left.owner], finalizers=["example.org/wait"])
    left.cluster.delete(Ref.of(made), uid=made["metadata"]["uid"])
    words = ["sweep", "--kubeconfig", str(control_plane.kubeconfig("admin")), "--namespace", left.namespace, "--older-than"]
    ended = CliRunner().invoke(main, [*words, "0s"])
    assert ended.exit_code == 22 and "deleted service/way-in" in ended.stdout, ended.output
    assert "configmap/held" in ended.stderr and "held by the finalizer example.org/wait" in ended.stderr
    assert CliRunner().invoke(main, [*words, "soon"]).exit_code == 4


def test_a_watchdog_that_never_ran_goes_with_its_lease(left):
    journal = left.journal()
    container = {"name": "watchdog", "image": "registry.example/hotfire"}
    pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    left.make("batch/v1", "Job", "watchdog", {"spec": {"template": pod}}, labels={**MANAGED, WATCHES: "run-a"})
    own = Ref("coordination.k8s.io/v1", "Lease", left.namespace, f"watchdog-{journal.ref.name}")
    Lease.take_named(left.cluster, {own: "the watch"}, "dog-a", 1)._stop.set()
    pause(1.2)
    assert left.sweep() == [] and left.cluster.list("batch/v1", "Job", left.namespace) == []
    assert left.cluster.find(own) is None


def test_beside_a_damaged_journal_nothing_is_swept(left):
    journal = left.journal()
    left.cluster.replace({**journal.live, "data": {"journal": "{"}})
    with pytest.raises(Damaged, match="is no journal"):
        left.sweep()
    assert left.there >= EVERYTHING


def test_in_all_namespaces_a_damaged_journal_keeps_only_its_own_from_being_swept(left):
    journal = left.journal()
    left.cluster.replace({**journal.live, "data": {"journal": "{"}})
    other = f"{left.namespace}-other"
    left.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    Left(left.cluster, other)
    failed = sweep_all(left.cluster, 3600, tell=left.told.append)  # the server is the session's: nothing is that old
    assert [line for line in failed if line.startswith(f"{left.namespace}: journal hotfire-deployment-llama is damaged")]
    assert f"{other}: nothing to do" in left.told and left.there >= EVERYTHING


@pytest.mark.parametrize(
    ("uid", "label", "more", "goes"),
    [
        ("its own", "run-a", {}, True),
        ("another", "run-a", {}, False),
        ("its own", "run-b", {}, False),
        ("its own", "run-a", {"state": State.CONFIRMED, "keep": True}, False),
        ("its own", "run-a", {"settled": False}, False),
    ],
)
def test_a_namespace_goes_only_by_uid_and_label_of_a_run_that_ended(left, uid, label, more, goes):
    name = f"{left.namespace}-own"
    meta = {"name": name, "labels": {RUN_LABEL: label}}
    made = left.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    journal = left.journal(namespace=name)
    journal.write(entries=(DeleteNamespace(name=name, uid=made["metadata"]["uid"] if uid == "its own" else "x"),), **more)
    left.sweep()
    live = left.cluster.get(Ref("v1", "Namespace", "", name))
    assert ("deletionTimestamp" in live["metadata"]) is goes


def test_in_a_namespace_that_a_live_run_made_nothing_is_touched(left, cluster):
    """Its journal and its Lease lie at home."""
    home = f"{left.namespace}-home"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    live = cluster.get(Ref("v1", "Namespace", "", left.namespace))
    cluster.replace({**live, "metadata": {**live["metadata"], "labels": RUN}})
    Journal.open(cluster, home, Body(run="run-a", namespace=left.namespace, mode=Mode.CERTIFY, workloads=(LLAMA,)))
    assert left.sweep() == [] and left.there == EVERYTHING and left.told[0].startswith("run run-a has not ended")


def test_in_a_namespace_of_a_run_that_nobody_knows_nothing_is_touched(left, cluster):
    live = cluster.get(Ref("v1", "Namespace", "", left.namespace))
    cluster.replace({**live, "metadata": {**live["metadata"], "labels": RUN}})
    with pytest.raises(Refused, match="made by run run-a, whose journal is not there"):
        left.sweep()
    assert left.there == EVERYTHING


def test_who_cannot_know_whether_a_run_made_the_namespace_sweeps_nothing(left, reader):
    let(left.cluster, left.namespace, {"apiGroups": [""], "resources": ["configmaps", "services"], "verbs": ["list", "delete"]})
    with pytest.raises(Refused, match="must be known before a sweep"):
        sweep(reader, left.namespace, 0, tell=left.told.append)
    assert left.there == EVERYTHING


def test_what_may_not_be_looked_at_is_said(left, reader):
    left.journal()
    let(
        left.cluster,
        left.namespace,
        {"apiGroups": ["", "coordination.k8s.io"], "resources": ["*"], "verbs": ["list", "delete", "get"]},
    )
    failed = sweep(reader, left.namespace, 0, tell=left.told.append)
    assert [line.split(" objects")[0] for line in failed][:2] == ["Deployment", "StatefulSet"], failed
    assert "way-in" not in left.there and "were not looked at: " in failed[0]


def test_what_abort_ended_leaves_nothing_to_sweep(scene):
    scene.dies()
    scene.journal.write(watchdog="")
    abort(scene.cluster, scene.namespace, tell=lambda line: None)
    told: list[str] = []
    pause(1.2)
    assert sweep(scene.cluster, scene.namespace, 0, tell=told.append) == [] and told == [f"{scene.namespace}: nothing to do"]

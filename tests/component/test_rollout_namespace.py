"""The namespace that a run makes: deleted only by its UID and the run's label, and never called gone while it is there."""

import pytest

from hotfire.journal.entries import DeleteNamespace
from hotfire.journal.journal import Body, Journal
from hotfire.journal.store import Stored
from hotfire.kube.client import Cluster, Ref
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.proof import Finding, Scene, judge
from hotfire.rollout.restore import Restore
from hotfire.words import Mode, Proof

ANOTHER = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def journal(cluster: Cluster, namespace: str) -> Journal:
    """Of a run that was about to make a namespace and then died, or heard no answer; it lies in another."""
    body = Body(run="run-a", namespace=f"{namespace}-made", mode=Mode.CERTIFY, workloads=("deployment/llama",))
    opened = Journal.open(cluster, namespace, body)
    opened.record(DeleteNamespace(name=body.namespace))
    return opened


def make(journal: Journal, label: str) -> str:
    """A namespace of that name, with that label of a run; its UID."""
    meta = {"name": journal.body.namespace, "labels": {RUN_LABEL: label} if label else {}}
    return str(journal.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})["metadata"]["uid"])


def there(journal: Journal) -> bool:
    """Nothing collects what is deleted: it stays, terminating."""
    live = journal.cluster.find(Ref("v1", "Namespace", "", journal.body.namespace))
    return live is not None and "deletionTimestamp" not in live["metadata"]


def restored(journal: Journal) -> Finding:
    """What the proof says of it afterwards."""
    Restore(journal, Stored([]), lambda: None).go()
    return judge(Scene.of_old(journal, Stored([]), None, lambda: None), "residue")


@pytest.mark.parametrize(("label", "goes"), [("run-a", True), ("other", False), ("", False)])
def test_with_its_uid_written_down_it_goes_if_it_carries_the_runs_label_and_else_is_named(journal, label, goes):
    journal.record(DeleteNamespace(name=journal.body.namespace, uid=make(journal, label)))
    found = restored(journal)
    assert there(journal) is not goes
    assert (
        found.result is Proof.UNPROVEN and f"namespace {journal.body.namespace}, which the run made, is there" in found.evidence
    )


@pytest.mark.parametrize("label", ["run-a", "other"])
def test_one_of_another_uid_is_somebody_elses(journal, label):
    make(journal, label)
    journal.record(DeleteNamespace(name=journal.body.namespace, uid=ANOTHER))
    assert restored(journal).result is Proof.PROVEN and there(journal)


def test_one_whose_creation_was_never_written_down_is_known_by_its_label_and_goes(journal):
    uid = make(journal, "run-a")
    assert judge(Scene.of_old(journal, Stored([]), None, lambda: None), "residue").result is Proof.UNPROVEN
    assert restored(journal).result is Proof.UNPROVEN and not there(journal)
    assert journal.of_type(DeleteNamespace)[-1] == DeleteNamespace(name=journal.body.namespace, uid=uid)


@pytest.mark.parametrize("label", ["other", ""])
def test_one_that_others_made_first_stays_and_is_no_residue(journal, label):
    make(journal, label)
    assert restored(journal).result is Proof.PROVEN and there(journal)

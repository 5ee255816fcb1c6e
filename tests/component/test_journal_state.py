"""The journal and its Leases against a real API server."""

import json
import time

import pytest

from hotfire.errors import HarnessError, LeaseLost, Refused
from hotfire.journal.entries import DeleteAdded, FaultBegun, FaultEnded, PutBack
from hotfire.journal.journal import NEXT, Body, Journal, name_for
from hotfire.journal.lease import Lease, holder_of
from hotfire.journal.store import Stored, beside, drop, fetch, fingerprint, keep, new_key
from hotfire.kube.client import Cluster, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.status import describe
from hotfire.words import Mode, State, Verdict

LLAMA = "deployment/llama"


def opened(cluster: Cluster, namespace: str, run: str = "run-a", *others: str) -> Journal:
    return Journal.open(cluster, namespace, Body(run=run, namespace=namespace, mode=Mode.PROMOTE, workloads=(LLAMA, *others)))


def restored(journal: Journal) -> Journal:
    journal.move(State.RESTORING, by="test")
    journal.move(State.RESTORED, by="test")
    journal.write(settled=True)
    return journal


def lease(cluster: Cluster, namespace: str, run: str, length_s: float = 1.5, wait_s: float = 0, *more: str) -> Lease:
    return Lease.take(cluster, namespace, (LLAMA, *more), run, length_s, wait_s=wait_s)


def test_of_two_writers_who_read_the_same_journal_one_wins(cluster, namespace):
    first = opened(cluster, namespace)
    second = Journal.read(cluster, namespace, LLAMA)
    first.move(State.ARMED, by="first")
    with pytest.raises(LeaseLost, match="moved on by another"):
        second.move(State.RESTORING, by="second")
    assert Journal.read(cluster, namespace, LLAMA).state is State.ARMED


@pytest.mark.parametrize("state", State)
def test_every_step_that_is_not_in_the_table_is_refused(cluster, namespace, state):
    journal = opened(cluster, namespace)
    journal.write(state=state)
    illegal = [to for to in State if to not in NEXT[state] or state is State.RESTORED]
    for to in illegal:
        with pytest.raises(HarnessError, match="does not follow"):
            journal.move(to, by="test")
    assert illegal and Journal.read(cluster, namespace, LLAMA).state is state


def test_only_a_rehearsal_or_a_drill_goes_on_from_restored(cluster, namespace):
    journal = opened(cluster, namespace)
    journal.move(State.RESTORING, by="test", why="drill")
    journal.move(State.RESTORED, by="test")
    journal.move(State.APPLYING, by="test")
    assert journal.state is State.APPLYING and journal.body.n == 1


def test_entries_are_durable_typed_and_in_order(cluster, namespace):
    journal = opened(cluster, namespace)
    ref = Ref("v1", "ConfigMap", namespace, "settings")
    journal.record(PutBack.of(ref, uid="u1"))
    journal.record(DeleteAdded.of(ref, labels={"app": "llama"}), FaultBegun(fault="kill"))
    read = Journal.read(cluster, namespace, LLAMA)
    assert [entry.op for entry in read.body.entries] == ["put-back", "delete-added", "fault-begun"]
    assert read.of_type(PutBack)[0].ref == ref and [one.fault for one in read.open_faults] == ["kill"]
    read.record(FaultEnded(fault="kill"))
    assert read.open_faults == []


@pytest.mark.parametrize(
    "change",
    [{"version": "hotfire/journal/v2"}, {"entries": [{"op": "run-this", "code": "rm"}]}, {"surprise": 1}, {"state": "FINE"}],
)
def test_a_journal_that_is_not_understood_is_refused_and_shown(cluster, namespace, change):
    journal = opened(cluster, namespace)
    damaged = json.dumps(json.loads(journal.body.model_dump_json()) | change)
    cluster.replace({**journal.live, "data": {"journal": damaged}})
    with pytest.raises(Refused, match="hotfire-deployment-llama"):
        Journal.read(cluster, namespace, LLAMA)


def test_an_unfinished_run_refuses_the_next_and_says_what_to_do(cluster, namespace):
    opened(cluster, namespace, "run-a").move(State.ARMED, by="run-a")
    with pytest.raises(Refused, match=r"run run-a left deployment/llama .* ARMED .*hotfire abort --namespace"):
        opened(cluster, namespace, "run-b")


def test_a_tombstone_lets_the_next_run_in_and_keeps_the_last_known_good(cluster, namespace):
    journal = opened(cluster, namespace, "run-a")
    journal.write(images=("sha256:1",))
    restored(journal).conclude(Verdict.NO_GO)
    after = opened(cluster, namespace, "run-b")
    assert (after.body.last_verdict, after.body.last_known_good) == ("NO_GO", ("sha256:1",))
    assert after.state is State.OPEN and "run-b" in describe(cluster, namespace)[0]


def test_one_who_slept_until_the_next_run_began_never_writes_over_it(cluster, namespace):
    sleeper = restored(opened(cluster, namespace))
    opened(cluster, namespace, "run-b")
    sleeper.reread()
    with pytest.raises(LeaseLost, match="run run-a is run run-b's now"):
        sleeper.write(asked="ROLL_BACK")
    assert Journal.read(cluster, namespace, LLAMA).body.asked == ""


def test_confirmed_but_not_settled_is_not_ended(cluster, namespace):
    journal = opened(cluster, namespace, "run-a")
    journal.write(state=State.CONFIRMED)
    with pytest.raises(Refused, match=r"was not settled .*hotfire settle reports/run-a"):
        opened(cluster, namespace, "run-b")


def test_a_second_workload_of_an_unfinished_run_is_refused_by_its_pointer(cluster, namespace):
    opened(cluster, namespace, "run-a", "deployment/embedder")
    with pytest.raises(Refused, match="run-a left deployment/embedder"):
        body = Body(run="run-b", namespace=namespace, mode=Mode.PROMOTE, workloads=("deployment/embedder",))
        Journal.open(cluster, namespace, body)


def test_a_lost_acknowledgement_is_looked_up(cluster, namespace, monkeypatch):
    from hotfire.kube.client import Unreachable

    journal = opened(cluster, namespace)
    send = cluster.replace

    def deaf(obj, **more):
        send(obj, **more)
        raise Unreachable(0, "Timeout", "no answer in time")

    monkeypatch.setattr(cluster, "replace", deaf)
    journal.move(State.ARMED, by="test")
    monkeypatch.undo()
    journal.move(State.APPLYING, by="test")
    assert Journal.read(cluster, namespace, LLAMA).state is State.APPLYING


# -- the snapshot beside it ---------------------------------------------------------------------------------------


def test_a_large_snapshot_comes_back_whole_from_another_process(cluster, namespace):
    import random

    noise = "".join(random.Random(1).choices("0123456789abcdef", k=1_600_000))
    objects = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"noise": noise}}]
    absent = [Ref("v1", "Service", namespace, "llama")]
    journal = opened(cluster, namespace)
    keep(journal, Stored(objects, absent))
    again = fetch(Journal.read(cluster, namespace, LLAMA))
    assert journal.body.parts > 1 and (again.objects, again.absent) == (objects, absent)


def test_no_secret_value_is_ever_in_a_configmap(cluster, namespace):
    made = cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "key", "namespace": namespace},
            "stringData": {"k": "hunter2"},
        }
    )
    key = new_key()
    journal = opened(cluster, namespace)
    keep(journal, Stored([made], (), [fingerprint(made, key)], key))
    texts = [json.dumps(obj) for obj in cluster.list("v1", "ConfigMap", namespace)]
    assert texts and not [text for text in texts if "hunter2" in text or made["data"]["k"] in text]
    assert fetch(journal).objects == [made] and fetch(journal).key == key


def test_secrets_larger_than_one_comes_back_whole_and_never_in_part(cluster, namespace):
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"k": name * 900_000}} for name in "ab"
    ]
    journal, key = opened(cluster, namespace), new_key()
    keep(journal, Stored(secrets, key=key))
    assert fetch(journal).objects == secrets and fetch(journal).key == key
    *_, last = [obj for obj in beside(cluster, journal) if obj["kind"] == "Secret"]
    cluster.delete(Ref.of(last), uid=last["metadata"]["uid"])
    with pytest.raises(HarnessError, match="Secrets beside the journal of run run-a cannot be read"):
        fetch(journal)


def test_secrets_that_are_gone_are_not_passed_over(cluster, namespace):
    """Also where no other is known by fingerprint alone."""
    journal = opened(cluster, namespace)
    keep(journal, Stored([{"kind": "Secret", "metadata": {"name": "a"}}], key=new_key()))
    (only,) = [obj for obj in beside(cluster, journal) if obj["kind"] == "Secret"]
    cluster.delete(Ref.of(only), uid=only["metadata"]["uid"])
    with pytest.raises(HarnessError, match="cannot be read"):
        fetch(journal)


def test_a_snapshot_that_was_tampered_with_is_not_used(cluster, namespace):
    journal = opened(cluster, namespace)
    keep(journal, Stored([{"kind": "ConfigMap", "metadata": {"name": "a"}}]))
    journal.write(snapshot_digest="0" * 64)
    with pytest.raises(HarnessError, match="not the one"):
        fetch(journal)


def test_dropping_the_snapshot_leaves_the_tombstone_alone(cluster, namespace):
    journal = opened(cluster, namespace)
    keep(journal, Stored([{"kind": "ConfigMap", "metadata": {"name": "a"}}], key=new_key()))
    assert len(beside(cluster, journal)) == 2
    drop(journal)
    left = [obj["metadata"]["name"] for obj in cluster.list("v1", "ConfigMap", namespace)]
    assert left == [name_for(LLAMA)] and cluster.list("v1", "Secret", namespace) == []


# -- the Lease ----------------------------------------------------------------------------------------------------


def test_a_second_run_is_told_who_holds_the_workload_since_when(cluster, namespace):
    held = lease(cluster, namespace, "run-a", 30)
    with pytest.raises(Refused, match=r"held by run run-a since \d{4}-"):
        lease(cluster, namespace, "run-b", 30)
    held.guard()
    held.release()
    assert holder_of(cluster, namespace, LLAMA) == ""


def test_a_renewed_lease_is_never_taken_however_long_one_waits(cluster, namespace):
    held = lease(cluster, namespace, "run-a")
    with pytest.raises(Refused):
        lease(cluster, namespace, "run-b", 1.5, 4)
    held.guard()
    held.release()


def test_a_released_lease_is_taken_by_the_one_who_waits(cluster, namespace):
    held = lease(cluster, namespace, "run-a", 30)
    held.release()
    with pytest.raises(LeaseLost):
        held.guard()
    other = lease(cluster, namespace, "run-b", 30, 5)
    other.guard()
    assert holder_of(cluster, namespace, LLAMA) == "run-b"
    other.release()


def test_a_dead_holder_is_succeeded_and_stops_writing_long_before(cluster, namespace):
    dead = lease(cluster, namespace, "run-a", 3)
    dead._stop.set()  # its process froze: nothing renews
    began = time.monotonic()
    heir = lease(cluster, namespace, "run-b", 3, 10)
    assert time.monotonic() - began >= 4 and heir.held[0]["spec"]["leaseTransitions"] == 1
    with pytest.raises(LeaseLost):
        dead.guard()
    dead.release()
    heir.guard()
    assert holder_of(cluster, namespace, LLAMA) == "run-b"
    heir.release()


def test_a_holder_that_wakes_after_takeover_finds_out_and_never_writes_again(cluster, namespace):
    held = lease(cluster, namespace, "run-a", 1.5)
    live = cluster.get(Ref.of(held.held[0]))
    cluster.replace({**live, "spec": {**live["spec"], "holderIdentity": "run-b", "leaseTransitions": 1}})
    pause(0.8)
    with pytest.raises(LeaseLost, match="run-b"):
        held.guard()


def test_a_lease_that_somebody_deleted_is_lost_for_good(cluster, namespace):
    held = lease(cluster, namespace, "run-a", 1.5)
    cluster.delete(Ref.of(held.held[0]), uid=held.held[0]["metadata"]["uid"])
    pause(0.8)
    with pytest.raises(LeaseLost, match="was deleted"):
        held.guard()
    held.release()


def test_writes_stop_while_the_api_server_is_deaf(control_plane, cluster, namespace):
    held = lease(cluster, namespace, "run-a", 1.5)
    cluster.timeout = 0.5
    control_plane.freeze_api()
    try:
        pause(1.6)
        with pytest.raises(LeaseLost, match="last renewed"):
            held.guard()
    finally:
        control_plane.thaw_api()
        cluster.timeout = 10
    pause(1.2)
    held.guard()  # nobody took it: the run goes on
    held.release()


def test_several_workloads_are_taken_in_name_order_or_not_at_all(cluster, namespace):
    other = Lease.take(cluster, namespace, ("deployment/zephyr",), "run-a", 30)
    with pytest.raises(Refused, match="zephyr"):
        lease(cluster, namespace, "run-b", 30, 0, "deployment/zephyr")
    assert holder_of(cluster, namespace, LLAMA) == ""
    other.release()

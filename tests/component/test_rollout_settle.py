"""The end of a run that has changed nothing, that is interrupted, or whose API server goes away, on a real API server."""

import threading

import pytest

from hotfire.errors import BadInput, Breach, Interrupted, LeaseLost, Refused
from hotfire.journal.entries import DeleteAdded
from hotfire.journal.journal import Body, Journal
from hotfire.journal.lease import Lease, holder_of
from hotfire.journal.store import Stored, keep
from hotfire.kube.client import Cluster, Forbidden, Object, Ref
from hotfire.kube.wait import check_interrupt, forget_interrupt, interrupt
from hotfire.record.events import Changed, Proved, Restored
from hotfire.rollout import patience
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.rollout import Rollout
from hotfire.rollout.settle import Settling
from hotfire.rollout.status import describe
from hotfire.rollout.takeover import abort, known
from hotfire.scenario.loader import load
from hotfire.words import Decision, Mode, Proof, State, Verdict
from tests.control_plane import let

LLAMA = "deployment/llama"
SCENARIO = """
apiVersion: hotfire/v1
kind: Scenario
name: settle
about: a test
mode: MODE
users: none
candidate: {manifests: manifests/, serves: [{workload: deployment/llama, service: llama, runtime: tiny, model: m}]}
stand: {namespace: NAMESPACE, accelerators: simulated}
startup: {ready_within: 30s}
lock: {lease: 3s}
"""
MANIFESTS = """
apiVersion: v1
kind: Service
metadata: {name: llama}
spec: {selector: {app: llama}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: llama}
spec:
  selector: {matchLabels: {app: llama}}
  template:
    metadata: {labels: {app: llama}}
    spec: {containers: [{name: server, image: "registry.example/engine@sha256:%s"}]}
""" % ("a" * 64)


@pytest.fixture
def located(tmp_path, namespace):
    def write(mode: str = "promote"):
        (tmp_path / "manifests").mkdir(exist_ok=True)
        (tmp_path / "manifests" / "all.yaml").write_text(MANIFESTS)
        (tmp_path / "scenario.yaml").write_text(SCENARIO.replace("NAMESPACE", namespace).replace("MODE", mode))
        return load(tmp_path / "scenario.yaml")

    return write


@pytest.fixture
def settling(cluster, namespace):
    """A journal in APPLYING whose run edited one ConfigMap and added another; its own Lease is not needed here."""
    settings = cluster.create(configmap(namespace, "settings", BATCH="8"))
    body = Body(run="run-a", namespace=namespace, mode=Mode.PROMOTE, workloads=(LLAMA,), soak_s=0, within_s=60)
    journal = Journal.open(cluster, namespace, body)
    keep(journal, Stored([settings]), not_applicable=dict.fromkeys(("target", "function", "stability"), "a test"))
    journal.move(State.ARMED, by="test")
    journal.move(State.APPLYING, by="test")
    journal.record(DeleteAdded.of(Ref("v1", "ConfigMap", namespace, "added")))
    cluster.create(configmap(namespace, "added", {RUN_LABEL: "run-a"}))
    cluster.replace({**settings, "data": {"BATCH": "16"}})
    events: list[object] = []
    made = Settling(journal, lambda: None, events.append, "test")
    made.events = events
    return made


def configmap(namespace: str, name: str, labels: Object | None = None, **data: str) -> Object:
    meta = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def batch(settling: Settling) -> str:
    namespace = settling.journal.body.namespace
    return settling.journal.cluster.get(Ref("v1", "ConfigMap", namespace, "settings"))["data"]["BATCH"]


def test_every_point_is_in_the_record_and_the_end_follows_from_them(settling):
    ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    said = [event for event in settling.events if isinstance(event, Proved)]
    assert (ending.state, ending.unproven, ending.verdict) == (State.RESTORED, [], Verdict.INCONCLUSIVE)
    assert len(said) == 12 and batch(settling) == "8" and 0 < ending.restored_s <= ending.settled_s
    assert [event.state for event in settling.events if isinstance(event, Changed)] == [State.RESTORING, State.RESTORED]
    assert len([event for event in settling.events if isinstance(event, Restored)]) == 1


def test_a_workload_of_the_manifests_that_serves_no_api_must_have_landed_before_the_commit(settling, monkeypatch):
    monkeypatch.setattr("hotfire.rollout.settle.LEAST_S", 0.5)
    journal = settling.journal
    side = Ref("apps/v1", "Deployment", journal.body.namespace, "side")
    journal.record(DeleteAdded.of(side))
    pod = {"metadata": {"labels": {"app": "side"}}, "spec": {"containers": [{"name": "server", "image": "side"}]}}
    spec = {"selector": {"matchLabels": {"app": "side"}}, "template": pod}
    meta = {"name": side.name, "namespace": side.namespace, "labels": {RUN_LABEL: "run-a"}}
    journal.cluster.create({"apiVersion": side.api_version, "kind": side.kind, "metadata": meta, "spec": spec})
    journal.move(State.TESTING, by="test")
    doubt = settling._confirm("head")  # what settle() takes back the candidate for
    assert doubt.startswith("landed: deployment/side: ") and journal.state is State.TESTING


def test_settling_again_changes_nothing_and_says_the_same(settling):
    first = settling.settle(Decision.ROLL_BACK, "a gate failed")
    version = settling.journal.live["metadata"]["resourceVersion"]
    again = settling.settle(Decision.ROLL_BACK, "again")
    assert (again.state, again.unproven) == (first.state, first.unproven)
    assert settling.journal.live["metadata"]["resourceVersion"] == version


def test_a_signal_does_not_stop_the_way_back(settling):
    interrupt()
    assert settling.settle(Decision.ROLL_BACK, "a signal").unproven == []
    with pytest.raises(Interrupted):
        check_interrupt()
    forget_interrupt()
    assert batch(settling) == "8"


def test_the_way_back_outlasts_an_api_server_that_is_away(control_plane, settling):
    settling.journal.cluster.timeout = 1
    control_plane.freeze_api()
    timer = threading.Timer(4, control_plane.thaw_api)
    timer.start()
    try:
        ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    finally:
        timer.join()
        settling.journal.cluster.timeout = 10
    assert ending.unproven == [] and batch(settling) == "8"


def test_a_right_that_is_refused_for_a_moment_stops_nothing(control_plane, cluster, namespace, monkeypatch) -> None:
    """As an API server refuses that has not read its roles yet."""
    monkeypatch.setattr(patience, "RIGHTS_S", 1.5)
    reader = Cluster.connect(str(control_plane.kubeconfig("reader")))
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}})
    asked = []

    def call() -> object:
        asked.append(1)
        if len(asked) == 2:
            let(cluster, namespace, {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]})
        return reader.get(Ref("v1", "ConfigMap", namespace, "a"))

    assert patience.patiently(call, lambda: 60) is not None and len(asked) >= 2
    with pytest.raises(Forbidden):
        patience.patiently(lambda: reader.get(Ref("v1", "Secret", namespace, "a")), lambda: 60)


def test_an_unproven_end_is_unsafe_and_keeps_the_next_run_out(settling):
    settling.journal.body.not_applicable.pop("function")
    ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    assert ending.verdict is Verdict.UNSAFE and any(line.startswith("function") for line in ending.unproven)
    assert ending.state is State.RESTORING
    with pytest.raises(Refused, match="RESTORING"):
        Journal.open(settling.journal.cluster, settling.journal.ref.namespace, settling.journal.body)


def test_who_lost_the_journal_stops_and_says_so(settling, cluster):
    other = Journal.read(cluster, settling.journal.ref.namespace, LLAMA)
    other.move(State.RESTORING, by="another")
    ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    assert not ending.safe and "LeaseLost" in ending.problems[0] and batch(settling) == "16"


def test_who_lost_the_lease_writes_nothing(settling):
    def lost() -> None:
        raise LeaseLost("another's")

    settling.guard = lost
    assert not settling.settle(Decision.ROLL_BACK, "a gate failed").safe and batch(settling) == "16"


def test_who_lost_the_lease_anchors_nothing(cluster, namespace, located):
    """Woken after another took over and ended: not even the record's hash goes into the tombstone."""
    rollout = Rollout.open(cluster, located(), namespace, "run-a", emit=lambda event: None)
    rollout.lease.release()
    with pytest.raises(LeaseLost):
        rollout.anchor_head("head")
    assert Journal.read(cluster, namespace, LLAMA).body.anchors == ()


def test_a_run_that_changed_nothing_ends_restored_without_asking_much(cluster, namespace, located):
    events: list[object] = []
    rollout = Rollout.open(cluster, located(), namespace, "run-a", emit=events.append)
    ending = rollout.settle(Decision.ROLL_BACK, "preflight failed")
    rollout.close(Verdict.INCONCLUSIVE)
    assert (ending.state, ending.unproven) == (State.RESTORED, [])
    assert ending.proofs["residue"].result is Proof.PROVEN
    assert "INCONCLUSIVE" in describe(cluster, namespace)[0] and holder_of(cluster, namespace, LLAMA) == ""


def test_certify_is_refused_where_its_objects_already_are(cluster, namespace, located):
    meta = {"name": "llama", "namespace": namespace}
    cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})
    with pytest.raises(BadInput, match=r"scenario.yaml:\d+:\d+: .* already holds service/llama"):
        Rollout.open(cluster, located("certify"), namespace, "run-a", emit=lambda event: None)
    assert holder_of(cluster, namespace, LLAMA) == ""


def test_abort_finishes_a_dead_run_and_a_second_abort_only_says_so(settling, cluster, namespace):
    told: list[str] = []
    ending = abort(cluster, namespace, "Deployment.v1.apps/llama", tell=told.append)  # as a scenario names other kinds
    assert (ending.verdict, ending.unproven) == (Verdict.INCONCLUSIVE, []) and batch(settling) == "8"
    assert abort(cluster, namespace, LLAMA, tell=told.append) is None and "nothing to do" in told[-1]


def test_abort_where_there_never_was_a_run_has_nothing_to_do(cluster, namespace):
    told: list[str] = []
    assert abort(cluster, namespace, tell=told.append) is None and "nothing to do" in told[-1]
    with pytest.raises(BadInput, match="nowhere: not there"):
        abort(cluster, "nowhere", tell=told.append)


def test_a_run_that_died_between_its_end_and_its_tombstone_only_needs_tidying_up(settling, cluster, namespace):
    assert settling.settle(Decision.ROLL_BACK, "a gate failed").unproven == []
    settling.journal.write(settled=False)
    ending = abort(cluster, namespace, tell=lambda line: None)
    assert (ending.state, ending.verdict) == (State.RESTORED, Verdict.INCONCLUSIVE)
    assert Journal.read(cluster, namespace, LLAMA).ended


def test_abort_frees_the_lease_of_a_run_that_died_before_its_journal(cluster, namespace):
    dead = Lease.take(cluster, namespace, [LLAMA], "run-a", 1)
    dead._stop.set()  # as SIGKILL leaves it: held, never renewed, never released
    told: list[str] = []
    assert abort(cluster, namespace, tell=told.append) is None and "run run-a died without a journal" in told[0]
    assert holder_of(cluster, namespace, LLAMA) == ""


def test_the_journal_of_a_created_namespace_lies_at_home(cluster, namespace, located):
    home = f"{namespace}-home"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    away = f"{namespace}-away"
    scenario = located("certify")
    rollout = Rollout.open(cluster, scenario, away, "run-a", emit=lambda event: None, home=home)
    rollout.create_namespace()
    assert rollout.journal.ref.name == f"hotfire-{away}-deployment-llama"
    assert abort_finds(cluster, away) == "run-a"
    assert describe(cluster, away)[0].startswith(f"{away}  {LLAMA}  OPEN since")
    assert describe(cluster, namespace) == ["no journal of hotfire there"]  # its name is the beginning of the other's
    rollout.lease.release()


def abort_finds(cluster, namespace: str) -> str:
    return known(cluster, namespace)[0][0].body.run


# -- a way back from which the run goes on -------------------------------------------------------------------------


def rehearsing(settling: Settling, of: str = "rehearsal", probe=None) -> Settling:
    settling.journal.move(State.TESTING, by="test")
    made = Settling(settling.journal, lambda: None, settling.events.append, "test", probe=probe, of=of)
    made.events = settling.events
    return made


def edit_again(settling: Settling) -> None:
    journal = settling.journal
    live = journal.cluster.get(Ref("v1", "ConfigMap", journal.body.namespace, "settings"))
    journal.cluster.replace({**live, "data": {"BATCH": "16"}})


@pytest.mark.parametrize("of", ["rehearsal", "drill"])
def test_a_rehearsal_is_proven_in_twelve_points_and_the_run_goes_on_to_an_end_of_its_own(settling, of):
    settling = rehearsing(settling, of)
    ending = settling.rehearse()
    journal, said = settling.journal, [event for event in settling.events if isinstance(event, Proved)]
    assert (ending.unproven, batch(settling), journal.state, journal.body.why) == ([], "8", State.RESTORED, of)
    assert len(said) == 12 and {event.of for event in said} == {of} and not (journal.final or journal.ended)
    journal.move(State.APPLYING, by="test")
    edit_again(settling)
    journal.move(State.TESTING, by="test")
    settling.of = "end"
    assert settling.settle(Decision.ROLL_BACK, "a gate failed").unproven == [] and batch(settling) == "8"
    assert journal.ended and [event.of for event in settling.events if isinstance(event, Restored)] == [of, "end"]


def test_a_rehearsal_that_is_not_proven_stays_restoring_and_is_still_brought_to_a_proven_end(settling):
    settling = rehearsing(settling)
    settling.journal.write(within_s=0.0)
    ending = settling.rehearse()
    assert [line.split(":")[0] for line in ending.unproven] == ["time"] and settling.journal.state is State.RESTORING
    settling.journal.write(within_s=60.0)
    settling.of = "end"
    assert settling.settle(Decision.ROLL_BACK, "the rehearsal failed").unproven == [] and settling.journal.ended


def test_a_run_that_died_between_a_rehearsal_and_the_next_deploy_is_restored(settling, cluster, namespace):
    assert rehearsing(settling).rehearse().safe
    edit_again(settling)  # as if it had begun to write
    with pytest.raises(Refused, match="RESTORED"):
        Journal.open(cluster, namespace, settling.journal.body)
    assert abort(cluster, namespace, tell=lambda line: None).verdict is Verdict.INCONCLUSIVE
    assert batch(settling) == "8" and Journal.read(cluster, namespace, LLAMA).ended


def test_a_signal_stops_a_rehearsal_and_settling_takes_it_up(settling):
    def probe() -> str:
        interrupt()
        raise Breach("no answer yet")

    settling = rehearsing(settling, probe=probe)
    settling.journal.write(not_applicable=dict.fromkeys(("target", "stability"), "a test"))
    with pytest.raises(Interrupted):
        settling.rehearse()
    forget_interrupt()
    settling.of, settling.probe = "end", lambda: "it answers"
    assert settling.settle(Decision.ROLL_BACK, "SIGTERM").unproven == [] and settling.journal.ended

"""What an API server refuses for a moment, on the way back and after the commit point: outlasted, never taken for an end."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from hotfire.errors import LeaseLost
from hotfire.journal.lease import Lease
from hotfire.journal.store import Stored, beside, fetch
from hotfire.kube.client import ApiError, Cluster, Forbidden, Object, TooMany, UnknownKind
from hotfire.rollout import patience
from hotfire.rollout.armed import ByWatchdog, ask
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.proof import Scene as ProofScene
from hotfire.rollout.proof import eventually
from hotfire.rollout.restore import Restore, anchor_ref
from hotfire.rollout.settle import Ending, Settling, finish
from hotfire.rollout.sweep import sweep
from hotfire.rollout.watchdog import Watchdog, lease_ref
from hotfire.words import Decision, Proof, State
from tests.dead_run import Scene, T, restored

THROTTLED = TooMany(429, "TooManyRequests", "replace: too many requests")
REFUSED = Forbidden(403, "Forbidden", "replace: no policy allows it")


@pytest.fixture
def confirmed(scene: Scene) -> Scene:
    scene.journal.move(State.CONFIRMED, by="run-a", confirmed="head")
    return scene


@pytest.fixture
def refuse(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, list[ApiError]], list[ApiError]]:
    """refuse(verb, name, answers): the next writes of objects of that name get these answers; those that are left."""

    def these(verb: str, name: str, answers: list[ApiError]) -> list[ApiError]:
        real = getattr(cluster, verb)

        def call(first: Object, *words: object, **more: object) -> object:
            if answers and (first["metadata"]["name"] if isinstance(first, dict) else first.name) == name:
                raise answers.pop()
            return real(first, *words, **more)

        monkeypatch.setattr(cluster, verb, call)
        return answers

    return these


def finished(scene: Scene, guard: Callable[[], None] = lambda: None) -> Ending:
    return finish(scene.journal, guard, lambda line: None, "watchdog/dog", "the Lease ran out")


def released(scene: Scene) -> bool:
    left = scene.added()
    return left is not None and RUN_LABEL not in (left["metadata"].get("labels") or {})


def test_a_throttled_release_is_repeated_and_then_proven(confirmed, refuse):
    left = refuse("replace", "added", [THROTTLED])
    ending = finished(confirmed)
    assert ending.proofs["residue"].result is Proof.PROVEN and left == [], ending
    assert released(confirmed) and confirmed.read().ended and confirmed.batch == "16"


def test_a_candidate_that_was_not_released_is_no_end_and_no_sweep_takes_it(confirmed, refuse, monkeypatch):
    monkeypatch.setattr(patience, "RIGHTS_S", 0.5)
    refuse("replace", "added", [REFUSED] * 100)
    assert not finished(confirmed).safe and not confirmed.read().ended
    confirmed.lease.release()
    assert sweep(confirmed.cluster, confirmed.namespace, 0, tell=lambda line: None) == []
    assert confirmed.added() is not None and not released(confirmed)


def test_who_lost_the_lease_after_the_commit_point_writes_no_tombstone(confirmed):
    def lost() -> None:
        raise LeaseLost("another's")

    assert not finished(confirmed, lost).safe and not confirmed.read().ended and not released(confirmed)


def test_a_lease_that_is_lost_after_the_release_leaves_journal_and_snapshot_to_the_heir(confirmed):
    anchor = anchor_ref(confirmed.journal)

    def lost() -> None:
        if confirmed.cluster.find(anchor) is None:
            raise LeaseLost("another's")

    with suppress(LeaseLost):
        finished(confirmed, lost)
    assert released(confirmed) and not confirmed.read().ended and beside(confirmed.cluster, confirmed.journal)


# -- an API server that has not read its roles, or its kinds, yet -----------------------------------------------------


def answers(monkeypatch: pytest.MonkeyPatch, of: object, name: str, *errors: ApiError) -> list[ApiError]:
    """The next calls of a method raise these; those that are left."""
    real, left = getattr(of, name), list(errors)

    def call(*words: object, **more: object) -> object:
        if left:
            raise left.pop()
        return real(*words, **more)

    monkeypatch.setattr(of, name, call)
    return left


@pytest.mark.parametrize("error", [REFUSED, UnknownKind(404, "UnknownKind", "no kind HTTPRoute")], ids=["right", "kind"])
def test_a_point_is_asked_again_even_where_no_time_is_left(scene, monkeypatch, error):
    asked = ProofScene.of_old(scene.journal, Stored([scene.settings()]), None, lambda: None)
    left = answers(monkeypatch, scene.cluster, "find", error)
    assert eventually(asked, "closure", lambda: 0).result is Proof.PROVEN and left == []


def test_a_refusal_that_lasts_is_no_proof(scene, monkeypatch):
    monkeypatch.setattr(patience, "RIGHTS_S", 0.5)
    asked = ProofScene.of_old(scene.journal, Stored([scene.settings()]), None, lambda: None)
    answers(monkeypatch, scene.cluster, "find", *[REFUSED] * 100)
    with pytest.raises(Forbidden):
        eventually(asked, "closure", lambda: 0)


def test_a_run_asks_its_watchdog_and_waits_for_its_tombstone_through_a_refusal(scene, monkeypatch):
    scene.watchdog()
    settling = Settling(scene.journal, scene.lease.guard, lambda event: None, "run-a", ByWatchdog("run-a"))
    ask(scene.journal, "ROLL_BACK", "a gate failed")
    left = answers(monkeypatch, scene.cluster, "get", REFUSED)
    settling.executor.begin(settling, "a gate failed", lambda: 20.0)
    assert scene.journal.body.by == "watchdog/dog-a" and left == []
    scene.dies()
    left += answers(monkeypatch, scene.cluster, "get", REFUSED)
    assert settling.executor.tombstone(scene.journal, lambda: 20.0) and left == []


def test_a_watchdog_looks_again_after_a_refusal_and_after_it_was_well_in_between(scene, monkeypatch):
    monkeypatch.setattr(patience, "RIGHTS_S", 1.0)
    told: list[str] = []
    own = Lease.take_named(scene.cluster, {lease_ref(scene.namespace, scene.journal.ref.name): "x"}, "dog-a", T)
    dog = Watchdog(scene.journal, own, "watchdog/dog-a", told.append)
    looks = iter([REFUSED, None, None, None, None, None, None, REFUSED, True])

    def look() -> bool:
        found = next(looks)
        if isinstance(found, ApiError):
            raise found
        return bool(found)

    monkeypatch.setattr(dog, "look", look)
    dog.watch()
    own.release()
    assert told == ["cannot look: replace: no policy allows it"] * 2


def test_a_watchdog_that_starts_while_nobody_answers_waits_and_then_watches(control_plane, scene):
    control_plane.freeze_api()
    try:
        process = scene.watchdog(until="GET /version: ")
    finally:
        control_plane.thaw_api()
    scene.said(process, "watching run")
    scene.dies()
    scene.ended(process)
    assert restored(scene)


# -- a watchdog that dies, and who comes after it ---------------------------------------------------------------------


@pytest.mark.parametrize("late", ["its heir", "its own last word"])
def test_a_run_that_is_not_the_first_to_follow_a_dead_watchdog_goes_on_watching(scene, monkeypatch, late):
    scene.journal.move(State.RESTORING, by="watchdog/dog-x", why="ROLL_BACK")
    other, real = scene.read(), scene.journal.move

    def beaten(to: State, **more: object) -> None:
        Restore(other, fetch(other), lambda: None).go()
        if late == "its heir":
            other.move(State.RESTORING, by="watchdog/dog-y", why="dog-x is dead")
        other.write(done=other.body.n)
        monkeypatch.setattr(scene.journal, "move", real)
        real(to, **more)

    monkeypatch.setattr(scene.journal, "move", beaten)
    settling = Settling(scene.journal, scene.lease.guard, lambda event: None, "run-a", ByWatchdog("run-a"))
    ending = settling.settle(Decision.ROLL_BACK, "a gate failed")
    assert (ending.state, ending.unproven) == (State.RESTORED, []) and restored(scene)

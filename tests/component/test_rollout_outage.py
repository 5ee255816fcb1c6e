"""What an API server refuses for a moment, on the way back and after the commit point: outlasted, never taken for an end."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from hotfire.errors import LeaseLost
from hotfire.journal.store import beside
from hotfire.kube.client import ApiError, Cluster, Forbidden, Object, TooMany
from hotfire.rollout import patience
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.restore import anchor_ref
from hotfire.rollout.settle import Ending, finish
from hotfire.rollout.sweep import sweep
from hotfire.words import Proof, State
from tests.dead_run import Scene

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

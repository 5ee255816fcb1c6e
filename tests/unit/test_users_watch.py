"""The watch on users' counters: hotfire's own requests are never taken for theirs; what burns is said, whoever was waiting."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from hotfire.errors import Halted, Unjudged
from hotfire.gates.users import users_of
from hotfire.kube.wait import halt
from hotfire.plugin.nouns.counted import Counted
from hotfire.plugin.users import UsersWatch
from hotfire.record import events
from hotfire.words import Outcome, Reason, State
from tests.neighbour import neighbour

guard = neighbour("tests/unit/test_users_guard")
COUNT = 'http_requests_total{{handler="/v1/chat/completions",status="{}"}} {}\n'
POD = {"metadata": {"uid": "a", "name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}


class Engine:
    """What a pod counts, as its metrics page tells it; the cluster is not asked."""

    def __init__(self) -> None:
        self.good = self.bad = 0

    def page(self, _: object) -> str:
        return COUNT.format("2xx", self.good) + COUNT.format("5xx", self.bad)


class Traffic:
    """Of hotfire's own: what was sent is told once somebody asks."""

    def __init__(self) -> None:
        self.sent = self.really = 0

    def poll(self) -> None:
        self.sent = self.really


@pytest.fixture
def run() -> Iterator[Any]:
    asked = guard.scenario("vllm", guard.ERRORS)
    journal = SimpleNamespace(state=State.TESTING, body=SimpleNamespace(asked=False))
    found: Any = SimpleNamespace(
        scenario=asked, cluster=SimpleNamespace(list=lambda *_, **__: []), namespace="n", halted="", halted_in="", said=[],
        rollout=SimpleNamespace(journal=journal), located=None, engine=Engine(),
    )  # fmt: skip
    found.emit, found.hand_over = found.said.append, lambda why: setattr(journal.body, "asked", True)
    found.users = UsersWatch(found)
    found.users.__dict__["since"] = datetime.min.replace(tzinfo=UTC)
    (one,) = found.users.each
    one.meter = SimpleNamespace(counts=one.meter.counts, pods=lambda: ([POD], True), page=found.engine.page, who="the pods")
    one.findings = lambda: SimpleNamespace(blame=None, said=one.why)
    yield found
    halt(None)


def test_what_hotfire_sends_under_a_fault_is_never_taken_for_users(run: Any) -> None:
    """Nobody comes. 160 of its own before the fault are told late, 400 come while it is under way, 30 after."""
    (one,), traffic = run.users.each, Traffic()
    run.users.loads.append((one.serves.workload, traffic))
    run.users.look()
    for begins, sent in ((True, 160), (False, 400)):
        traffic.really += sent
        run.engine.good += sent
        run.users.fault(begins, traffic, one.serves.workload, 20.0)
    traffic.really += 30
    run.engine.good += 30
    traffic.poll()
    run.users.look()
    assert [row[1:3] for row in one.intervals] == [(1, 0), (1, 160), (0, 400), (1, 30)]
    assert one.ours == 160 + 20 + 30 and users_of(one.intervals, one.ours) == 0


def test_users_are_still_counted_beside_hotfires_own(run: Any) -> None:
    (one,), traffic = run.users.each, Traffic()
    run.users.loads.append((one.serves.workload, traffic))
    for begins in (True, False):
        traffic.really += 200
        run.engine.good += 500  # 300 of users
        run.users.fault(begins, traffic, one.serves.workload, 20.0)
    assert users_of(one.intervals, one.ours) == 300 - 20


def test_users_are_counted_again_after_a_fault_whose_load_was_lost(run: Any) -> None:
    (one,), traffic = run.users.each, Traffic()

    def lost() -> None:
        raise Unjudged("a carrier died", reason=Reason.CLIENT)

    run.users.fault(True, traffic, one.serves.workload, 1.0)
    traffic.poll = lost  # type: ignore[method-assign]
    run.users.fault(False, traffic, one.serves.workload, 1.0)
    run.engine.good += 50
    run.users.look()
    assert one.intervals[-1][1:3] == (1, 50)


def burning(run: Any) -> Callable[[], None]:
    """So many of them, each a failure, that nothing else explains it."""
    (one,) = run.users.each

    def burn() -> None:
        for i in range(30):
            run.engine.bad += 20
            one.read(time.time() + i, counts=True)

    return burn


def test_what_burns_while_its_check_waits_for_users_is_that_checks_answer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,), burn = run.users.each, burning(run)
    run.engine.good = 9
    one.read(time.time() - 1, counts=True)

    def burnt(_: float) -> None:
        burn()
        run.halted = one.why
        raise Halted(one.why)

    monkeypatch.setattr("hotfire.plugin.nouns.counted.pause", burnt)
    found = Counted(run, one.serves).burnt()
    assert "users' requests burn errors-ratio" in found.said  # type: ignore[attr-defined]
    assert [event.burnt for event in run.said] == [one.burnt] and one.failed
    run.users.end()
    assert len(run.said) == 1, "said twice"


def test_what_stops_the_run_for_another_api_is_no_answer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = run.users.each
    run.engine.good = 50
    one.read(time.time() - 1, counts=True)

    def burnt(_: float) -> None:
        raise Halted("another's")

    monkeypatch.setattr("hotfire.plugin.nouns.counted.pause", burnt)
    with pytest.raises(Halted):
        Counted(run, one.serves).burnt()
    assert run.said == []


def test_what_burnt_is_said_at_the_end_where_no_check_could(run: Any) -> None:
    """It had passed, and another's check was waiting when it burnt: the run is halted."""
    (one,) = run.users.each
    one.passed = True
    burning(run)()
    run.halted = one.why
    run.users.end()
    counted, judged = run.said
    assert isinstance(counted, events.Counted) and counted.burnt == one.burnt
    assert (judged.check, judged.outcome) == ("rollout.users[a]", Outcome.FAIL)


def test_bounds_that_come_with_the_first_request_are_looked_at_then(run: Any) -> None:
    asked = guard.scenario("trtllm", {"metric": "ttft", "p95": "< 20s"})
    run.scenario = asked
    (one,) = UsersWatch(run).each
    name = "trtllm_time_to_first_token_seconds_bucket"
    pages = iter(["", f'{name}{{le="10"}} 0\n{name}{{le="+Inf"}} 600\n'])
    one.meter = SimpleNamespace(counts=one.meter.counts, pods=lambda: ([POD], True), page=lambda _: next(pages), who="the pods")  # type: ignore[assignment]
    for at in (100.0, 101.0):
        one.read(at, counts=True)
    assert one.blind == ["its histogram ends at 10 s"]

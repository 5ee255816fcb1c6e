"""What a fault's questions make of the traffic beneath it: of requests that hang, and of a client that could not tell."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import Unjudged
from hotfire.faults.family import Sighting
from hotfire.load.plan import Plan
from hotfire.load.run import LoadRun
from hotfire.load.target import Target
from hotfire.plugin.nouns import fault
from hotfire.scenario.model import Fault, Load
from hotfire.words import Effect, Reason

EVENT = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s" % (len(EVENT), EVENT)
ASKED = {"name": "gone", "kill": "one pod", "serving_again_within": "2s", "errors": "< 10%"}
SPEC = CheckSpec("faults.errors", Evidence("request"))


@pytest.fixture
def noun(monkeypatch: pytest.MonkeyPatch) -> fault.FaultNoun:
    """Back in service at once, of a run without a cluster."""
    monkeypatch.setattr(fault, "FIRST_S", 2.0)
    monkeypatch.setattr(fault, "ServedBy", lambda *_: None)
    monkeypatch.setattr(fault, "CandidatePods", lambda *_: SimpleNamespace(not_ready=lambda within: []))
    load = Load.model_validate({"arrivals": "constant 40/s", "timeout": "1500ms"})
    serves, users = SimpleNamespace(workload="w"), SimpleNamespace(fault=lambda *_: None)
    scenario, cluster = SimpleNamespace(load=load, serving=lambda _: serves), SimpleNamespace(server_time=lambda: None)
    run = SimpleNamespace(scenario=scenario, cluster=cluster, namespace="n", emit=lambda _: None, users=users)
    return fault.FaultNoun(run, Fault.model_validate(ASKED), None)  # type: ignore[arg-type]


def under_way(noun: fault.FaultNoun, load: LoadRun) -> None:
    """A fault that was injected and confirmed just now."""
    noun._load, noun._applied, noun._sighting = load, load.mark("applied"), Sighting(Effect.CONFIRMED)


def test_requests_that_hang_are_among_those_due_after_the_return(
    noun: fault.FaultNoun, scripted: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = scripted({"good": [GOOD], "hung": [30.0]})
    plan = planned("constant 40/s", 400, texts=("good", "hung"))
    target = Target(server.url, "chat", "m", timeout_s=1.5, max_age_s=0.0, scale_s=30.0)
    with LoadRun.start(plan, target, tmp_path / "out") as load, running(SPEC.id, SPEC, lambda _: None):
        under_way(noun, load)
        assert noun.recovery_seconds() < 1.0 and noun.error_share() == pytest.approx(0.5, abs=0.3)  # drawn


@pytest.mark.parametrize(("script", "asked"), [([GOOD], ["recovery_seconds", "error_share"]), ([30.0], ["recovery_seconds"])])
def test_a_starved_client_says_nothing_of_a_recovery(
    noun: fault.FaultNoun,
    scripted: Callable[..., Any],
    planned: Callable[..., Plan],
    tmp_path: Path,
    script: Any,
    asked: list[str],
) -> None:
    target = Target(scripted({"hello": script}).url, "chat", "m", timeout_s=1.5, max_age_s=0.0, scale_s=0.5)
    with LoadRun.start(planned("constant 40/s", 400), target, tmp_path / "out") as load, running(SPEC.id, SPEC, lambda _: None):
        under_way(noun, load)
        for _ in range(6):
            os.kill(load.pids[0], signal.SIGSTOP)
            load._wait(0.3)
            os.kill(load.pids[0], signal.SIGCONT)
            load.wait_success(load.mark("running"), 0.1)
        for question in asked:
            with pytest.raises(Unjudged) as refused:
                getattr(noun, question)()
            assert refused.value.reason is Reason.CLIENT and refused.value.details

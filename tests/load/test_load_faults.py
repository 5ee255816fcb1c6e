"""What a fault's questions make of the traffic beneath it: of requests that hang, and of a client that could not tell."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.load.plan import Plan
from hotfire.load.run import LoadRun
from hotfire.load.target import Target
from hotfire.plugin.nouns import fault
from hotfire.scenario.model import Fault, Load

EVENT = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s" % (len(EVENT), EVENT)
ASKED = {"name": "gone", "kill": "one pod", "serving_again_within": "9s", "errors": "< 10%"}
SPEC = CheckSpec("faults.errors", Evidence("request"))


@pytest.fixture
def noun(monkeypatch: pytest.MonkeyPatch) -> fault.FaultNoun:
    """Back in service at once, of a run without a cluster."""
    monkeypatch.setattr(fault, "ServedBy", lambda *_: None)
    monkeypatch.setattr(fault, "CandidatePods", lambda *_: SimpleNamespace(not_ready=lambda within: []))
    load = Load.model_validate({"arrivals": "constant 40/s", "timeout": "1500ms"})
    scenario, cluster = SimpleNamespace(load=load, serving=lambda _: None), SimpleNamespace(server_time=lambda: None)
    run = SimpleNamespace(scenario=scenario, cluster=cluster, namespace="n", emit=lambda _: None, users=SimpleNamespace())
    return fault.FaultNoun(run, Fault.model_validate(ASKED), None)  # type: ignore[arg-type]


def test_requests_that_hang_are_among_those_due_after_the_return(
    noun: fault.FaultNoun, scripted: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = scripted({"good": [GOOD], "hung": [30.0]})
    plan, target = planned("constant 40/s", 400, texts=("good", "hung")), Target(server.url, "chat", "m", timeout_s=1.5)
    with LoadRun.start(plan, target, tmp_path / "out") as noun._load, running(SPEC.id, SPEC, lambda _: None):
        noun._back = noun._load.mark("serving again")
        assert noun.error_share() == pytest.approx(0.5)

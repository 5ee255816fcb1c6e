"""A plan that asks for more than the client can carry, in a whole run: said before a request is sent, for every question."""

from pathlib import Path

import pytest

from tests.planted_run import HEAD, Ended, Ground

SUITE = f"""{HEAD}
@check("load.client", needs=Evidence("request"))
def test_client(load):
    assert load.client_faults() == []


@check("load.slo", needs=Evidence("request"), per="slos")
def test_slo(load, slo):
    assert load.breaches(slo) == []


@check("load.stall", needs=Evidence("request"))
def test_stall(load, scenario):
    assert load.silences(scenario.stall.max) == []
"""
LOAD = {"arrivals": "constant 30000/s", "requests": 60000, "timeout": "10s"}


@pytest.fixture
def refused(ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ended:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ground.plant(SUITE, {"load": LOAD, "slos": [{"metric": "e2e", "p95": "< 2s"}]})
    return ground.run()


def test_no_question_is_judged_and_nothing_was_sent(refused: Ended) -> None:
    for key in ("load.client", "load.slo[e2e-p95]", "load.stall"):
        found = refused.check(key)
        assert (found["outcome"], found["reason"], found["blame"]) == ("INVALID", "client-unsound", "harness"), refused.output
        assert "of a CPU, this client can carry" in found["message"] and "no request was sent" in found["details"]
    assert refused.code == 21 and not [event for event in refused.events if event["type"] == "loaded"]
    assert not list(refused.folder.glob("load/*/samples*"))  # type: ignore[union-attr]

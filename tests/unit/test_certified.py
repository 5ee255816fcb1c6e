"""A certificate holds for a promote if it is a GO for the very candidate, fresh, on such hardware, by such objectives."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hotfire.errors import BadInput
from hotfire.gates.certified import objections
from hotfire.plugin.run import certified
from hotfire.scenario.loader import load
from tests.neighbour import neighbour
from tests.recorded_run import Run

base = neighbour("tests/unit/test_scenario_loader")

DAY = 86400.0
ASKED = {"id": "ttft-p95", "metric": "ttft", "statistic": "p95", "limit": 0.35, "confidence": 0.95}
GATE = {"metric": "ttft", "statistic": "p95", "limit": 0.35, "confidence": 0.95, "gate": "required"}


def gate(outcome: str = "PASS", **changes: Any) -> dict[str, Any]:
    return {"gate": GATE | changes, "judgement": {"outcome": outcome}}


def certificate(**changes: Any) -> dict[str, Any]:
    whole = {"verdict": "GO", "candidate_digest": "a" * 64, "accelerators": "real", "gates": [gate()]}
    return whole | changes


def against(found: Mapping[str, Any], **changes: Any) -> str:
    asked = {"candidate_digest": "a" * 64, "accelerators": "real", "objectives": [ASKED], "within_s": 7 * DAY, "age_s": DAY}
    return "; ".join(objections(found, **(asked | changes)))


def test_the_same_candidate_on_the_same_hardware_by_the_same_objectives_holds() -> None:
    assert against(certificate()) == ""


@pytest.mark.parametrize("verdict", ["NO_GO", "INCONCLUSIVE", "UNSAFE", "go", None])
def test_only_a_go_certifies(verdict: str | None) -> None:
    assert against(certificate(verdict=verdict)) == f"its verdict is {verdict}, GO is expected"


@pytest.mark.parametrize("digest", ["b" * 64, "", None])
def test_a_certificate_of_another_candidate_does_not_hold(digest: str | None) -> None:
    assert "it is for the candidate" in against(certificate(candidate_digest=digest))


@pytest.mark.parametrize(
    ("age", "says"), [(7 * DAY, ""), (7 * DAY + 9, "days old"), (-9.0, "days old"), (None, "does not say when")]
)
def test_it_is_fresh_and_not_of_the_future(age: float | None, says: str) -> None:
    assert (against(certificate(), age_s=age) == "") is (says == "") and says in against(certificate(), age_s=age)


@pytest.mark.parametrize(("earned", "target", "holds"), [
    ("real", "real", True), ("real", "simulated", True), ("simulated", "simulated", True),
    ("simulated", "real", False), (None, "real", False),
])  # fmt: skip
def test_simulated_accelerators_certify_nothing_for_real_ones(earned: str | None, target: str, holds: bool) -> None:
    assert (against(certificate(accelerators=earned), accelerators=target) == "") is holds


GOODPUT = gate(metric="goodput", statistic="share", limit=0.95, within={"ttft": 0.35})
GATES = {  # name -> (gates of the certificate, what is asked, whether it holds)
    "stricter": ([gate(limit=0.2)], {}, True),
    "looser": ([gate(limit=0.36)], {}, False),
    "surer": ([gate(confidence=0.99)], {}, True),
    "less sure": ([gate(confidence=0.9)], {}, False),
    "a point estimate for a bound": ([gate(confidence="none")], {}, False),
    "a bound for a point estimate": ([gate()], {"confidence": "none"}, True),
    "a point estimate for one": ([gate(confidence="none")], {"confidence": "none"}, True),
    "another metric": ([gate(metric="e2e")], {}, False),
    "another percentile": ([gate(statistic="p99")], {}, False),
    "not passed there": ([gate("INVALID")], {}, False),
    "passed after it was undecided": ([gate("INVALID"), gate()], {}, True),
    "failed after it passed": ([gate(), gate("FAIL")], {}, False),
    "no limit": ([{"gate": {**GATE, "limit": None}, "judgement": {"outcome": "PASS"}}], {}, False),
    "none": ([], {}, False),
    "goodput": ([GOODPUT], GOODPUT["gate"], True),
    "goodput of more": ([gate(**GOODPUT["gate"] | {"limit": 0.99})], GOODPUT["gate"], True),
    "goodput of fewer": ([gate(**GOODPUT["gate"] | {"limit": 0.9})], GOODPUT["gate"], False),
    "goodput within less": ([gate(**GOODPUT["gate"] | {"within": {"ttft": 0.1, "itl": 0.01}})], GOODPUT["gate"], True),
    "goodput within more": ([gate(**GOODPUT["gate"] | {"within": {"ttft": 0.4}})], GOODPUT["gate"], False),
    "goodput of another figure": ([gate(**GOODPUT["gate"] | {"within": {"e2e": 0.1}})], GOODPUT["gate"], False),
}


@pytest.mark.parametrize("name", GATES)
def test_each_required_objective_was_passed_there_at_this_limit_or_a_stricter(name: str) -> None:
    gates, asked, holds = GATES[name]
    said = against(certificate(gates=gates), objectives=[ASKED | asked])
    assert said == ("" if holds else f"it does not show that ttft-p95 holds at {(ASKED | asked)['limit']:g} or stricter")


@pytest.mark.parametrize("gates", [None, 3, "PASS", [1], [{}], [{"gate": 1, "judgement": 2}], {"gate": "ttft"}])
def test_gates_of_any_other_shape_show_nothing(gates: Any) -> None:
    assert "does not show that ttft-p95" in against(certificate(gates=gates))


def test_every_objection_is_a_line() -> None:
    lines = objections({}, candidate_digest="a" * 64, accelerators="real", objectives=[ASKED], within_s=DAY, age_s=None)
    assert len(lines) == 5


@pytest.mark.parametrize(
    "changed", [{}, {"candidate_digest": "b" * 64}, {"accelerators": "real"}], ids=["as it is", "digest", "hardware"]
)
def test_a_certificate_is_held_against_the_record_beside_it(tmp_path: Path, changed: dict[str, str]) -> None:
    """What a promote rests on is a file: whoever can edit it would certify what he likes."""
    (tmp_path / "run").mkdir()
    Run(tmp_path / "run").write()
    file = tmp_path / "run" / "verdict.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    text = base.SCENARIO.replace("about:", "mode: promote\ncertified: run/verdict.json\nabout:")
    with pytest.raises(BadInput) as bad:  # it is another candidate's in any case
        certified(load(base.write(tmp_path, text)), "c" * 64)
    told = [line for line in bad.value.lines if "not what the record beside it says of" in line]
    assert len(told) == bool(changed) and all(key in told[0] for key in changed)

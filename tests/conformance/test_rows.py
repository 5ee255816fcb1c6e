"""The catalogue of vacuous passes, row by row: what others let through, and what it comes to here (expected.yaml)."""

import ast
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hotfire.cli import main
from hotfire.errors import Unjudged
from hotfire.gates import statistics
from hotfire.record.events import Judged, PlannedCheck
from hotfire.words import Blame, Gate, Outcome, Reason, Verdict
from tests.planted_run import ROW, Ground, planted_suite

ROOT = Path(__file__).parents[2]
REPORTED = {"FAIL": ("failure", "failed"), "INVALID": ("error", "broken"), "NOT_RUN": ("skipped", "skipped")}  # JUnit, Allure
NOT_GREEN = {"FAIL", "INVALID", "NOT_RUN"}
VERDICT, REFUSED = {"verdict"}, {"bad-input"}
ENDS = {  # by -> what a row may come to
    "gate": NOT_GREEN, "run": NOT_GREEN, "verdict": VERDICT, "deselect": VERDICT, "lint": REFUSED, "usage": REFUSED,
}  # fmt: skip
ANY = NOT_GREEN | VERDICT | REFUSED | {"as-it-was", "as-it-should"}  # a row that a test shows, or nothing so far
ROWS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "expected.yaml").read_text())


def rows(by: str) -> Any:
    chosen = [row for row in ROWS if row["by"] == by]
    return pytest.mark.parametrize("row", chosen, ids=[row["id"] for row in chosen])


def test_every_row_of_the_catalogues_is_there() -> None:
    wanted = [f"F{n}" for n in range(1, 25)] + [f"H{n}" for n in range(1, 24)] + [f"P{n}" for n in range(1, 14)]
    assert [row["id"] for row in ROWS] == wanted


def test_an_open_row_says_why_and_most_rows_are_not_open() -> None:
    still = [row for row in ROWS if row["by"] == "open"]
    assert all(row["why"] for row in still) and len(still) <= 2


def kind(ours: str | list[str]) -> str:
    if isinstance(ours, list):
        outcome, _ = Outcome(ours[0]), Reason(ours[1])
        return outcome.value
    return "verdict" if ours in [*Verdict] else ours


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_every_row_says_what_it_comes_to_and_never_green(row: dict[str, Any]) -> None:
    assert kind(row["ours"]) in ENDS.get(row["by"], ANY) and row["ours"] != Verdict.GO


@rows("test")
def test_the_test_that_shows_it_asserts_it(row: dict[str, Any]) -> None:
    file, name = row["test"].split("::")
    text = (ROOT / file).read_text()
    (named,) = (one for one in ast.parse(text).body if isinstance(one, ast.FunctionDef) and one.name == name)
    first = min([named.lineno, *(mark.lineno for mark in named.decorator_list)])
    assert row["shows"] in "\n".join(text.splitlines()[first - 1 : named.end_lineno])


def test_the_sound_scenario_alone_is_fit() -> None:
    """What the rows of kind `lint` are compared with."""
    ended = CliRunner().invoke(main, ["lint", str(ROOT / "scenarios" / "smollm-sound")])
    assert (ended.exit_code, ended.stderr) == (0, "")


@rows("lint")
def test_it_is_refused_before_anything_is_touched(row: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "scenario"
    shutil.copytree(ROOT / "scenarios" / "smollm-sound", folder)
    file = folder / "scenario.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **row.get("patch", {})}, sort_keys=False))
    if row.get("missing"):
        file.unlink()
    ended = CliRunner().invoke(main, ["lint", str(folder / "scenario.yaml")])
    assert (ended.exit_code, ended.stdout) == (4, "") and row["says"] in ended.stderr, ended.output


@rows("gate")
def test_the_gate_says_so(row: dict[str, Any]) -> None:
    outcome, reason = row["ours"]
    bad = [True] * row.get("bad", 0) + [False] * (row.get("of", 300) - row.get("bad", 0))
    latency = [math.nan if row.get("nan") else 20.0 if late else 1.0 for late in bad]
    try:
        if row.get("spaced"):
            found = statistics.judge_spaced(len(bad), sum(bad), row["share"], look=5, last_look=True)
        else:
            found = statistics.judge_rated(bad, latency, row["share"], look=5, last_look=True)
    except Unjudged as unjudged:
        assert (Outcome.INVALID, unjudged.reason) == (outcome, reason)
    else:
        assert (found.outcome, found.reason) == (outcome, reason)


@rows("verdict")
def test_the_verdict_says_so(row: dict[str, Any]) -> None:
    from hotfire.gates.decision import verdict_of  # the smallest question: planned, judged, settled well

    planned, judged = [], []
    for key, outcomes in row["judged"].items():
        id, _, param = key.partition("[")
        advisory = row.get("advisory") or key == row.get("advisory_only")
        gate = Gate.ADVISORY if advisory else Gate.REQUIRED
        planned.append(PlannedCheck(id=id, param=param.rstrip("]"), suite="s", question="q", gate=gate))
        for outcome in outcomes if isinstance(outcomes, list) else [outcomes]:
            if outcome is not None:
                reason = Reason.UNDECIDED if outcome == "INVALID" else None
                judged.append(Judged(check=key, outcome=outcome, reason=reason, blame=Blame(row.get("blame", "candidate"))))
    assert verdict_of(planned, judged) is Verdict(row["ours"])


@rows("run")
def test_the_run_says_so_and_never_exits_0(row: dict[str, Any], ground: Ground) -> None:
    ground.plant(planted_suite(row["body"]))
    ended = ground.run()
    found = ended.check(ROW)
    assert [found["outcome"], found["reason"]] == row["ours"], ended.output
    decision, because = ended.decided
    assert (decision, ended.code) == ("ROLL_BACK", row.get("exit", 21)) and ROW in because[0], because
    assert all("blocked" in line for line in because[1:])  # nothing else stood against it
    assert ended.reported(ROW) == REPORTED[found["outcome"]] and ground.ended_well


@rows("usage")
def test_the_suite_is_refused(row: dict[str, Any], ground: Ground) -> None:
    ground.plant(planted_suite().replace(ROW, row["planted"]))
    ended = ground.run()
    assert ended.code == 4 and row["says"] in ended.output and ground.ended_well, ended.output


@rows("deselect")
def test_silent_checks_are_never_a_go(row: dict[str, Any], ground: Ground) -> None:
    ground.plant(planted_suite())
    ended = ground.run("-k", "nothing")
    assert (ended.code, ended.verdict["verdict"]) == (21, row["ours"]), ended.output
    assert {one["reason"] for one in ended.verdict["checks"] if one["asked"]} == {"silent"} and ground.ended_well


def test_the_planted_suite_alone_would_be_confirmed(ground: Ground) -> None:
    """What the rows of kind `run` are compared with; it is no GO, for nothing was deployed."""
    ground.plant(planted_suite())
    ended = ground.run()
    assert (ended.decided[0], ended.code, ended.reported(ROW)) == ("CONFIRM", 21, ("passed", "passed")), ended.output

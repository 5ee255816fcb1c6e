"""Every report tells what the record says: verdict.json, JUnit, Allure, the live lines; and none holds a secret."""

import gzip
import json
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from hotfire.errors import HarnessError
from hotfire.record.events import Closed, Judged, Told
from hotfire.record.redactor import Redactor
from hotfire.report import live, reported, write_all
from hotfire.report.allure import allure_status, scan
from hotfire.words import Outcome, Verdict
from tests.recorded_run import INCONCLUSIVE, PENDING, RUNS, SECRET, Run, said


@pytest.mark.parametrize("name", RUNS)
def test_verdict_and_exit_code_are_the_records(made: dict[str, Path], name: str) -> None:
    found, wanted = said(made[name]), INCONCLUSIVE if name == "torn" else RUNS[name][0]
    assert (found["verdict"], found["exit_code"]) == (wanted, wanted.exit_code) and found["because"]


def test_no_file_of_any_run_holds_the_secret(made: dict[str, Path]) -> None:
    files = [path for folder in made.values() for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 40 and not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("name", RUNS)
def test_junit_counts_what_the_record_counts(made: dict[str, Path], name: str) -> None:
    root, checks = xml.parse(made[name] / "junit.xml").getroot(), said(made[name])["checks"]
    for tag, outcome in (("failure", "FAIL"), ("error", "INVALID"), ("skipped", "NOT_RUN")):
        named = {case.get("name") for case in root.iter("testcase") if case.find(tag) is not None}
        assert named == {check["check"] for check in checks if check["outcome"] == outcome}
    assert root.get("tests") == str(len(checks))


def allure_folder(folder: Path, text: str = SECRET) -> Path:
    """What allure-pytest leaves: two results that say something else than the record, an attachment, a container."""
    results = folder / "allure-results"
    results.mkdir(exist_ok=True)
    for number, name in enumerate(("test_the_objective_holds[e2e-p80]", "test_of_no_plan")):
        data = {"uuid": str(number), "name": name, "fullName": f"suites#{name}", "status": "passed", "start": 1, "stop": 2}
        data["parameters"] = [{"name": "slo", "value": repr(text)}]
        (results / f"{number}-result.json").write_text(json.dumps(data))
    (results / "9-container.json").write_text(json.dumps({"befores": [{"name": text}]}))
    (results / "9-attachment.txt").write_text(f"log {text}\n")
    return results


def test_allure_says_what_the_record_says_and_nothing_secret(tmp_path: Path) -> None:
    allure_folder(tmp_path)
    Run(tmp_path, slow=8.0).write()
    results = [json.loads(path.read_text()) for path in (tmp_path / "allure-results").glob("*-result.json")]
    wanted = {check["check"]: allure_status(Outcome(check["outcome"])) for check in said(tmp_path)["checks"]}
    wanted["test_of_no_plan"] = "broken"
    assert {one["name"]: one["status"] for one in results} == wanted and len(results) == len(wanted)
    assert wanted["load.slo[e2e-p80]"] == "failed" and wanted["settle.restored"] == "passed"
    assert "hf-token" in (tmp_path / "allure-results/9-attachment.txt").read_text()


def test_allure_s_history_outlives_the_run_and_writing_twice_changes_nothing(tmp_path: Path) -> None:
    ids = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        allure_folder(tmp_path / run)
        Run(tmp_path / run, run=run).write()
        before = {path.name: path.read_bytes() for path in (tmp_path / run / "allure-results").iterdir()}
        write_all(tmp_path / run, Redactor({"hf-token/token": SECRET}))
        assert before == {path.name: path.read_bytes() for path in (tmp_path / run / "allure-results").iterdir()}
        results = [json.loads(path.read_text()) for path in (tmp_path / run / "allure-results").glob("*-result.json")]
        ids.append({one["name"]: one["historyId"] for one in results if "historyId" in one})
    assert ids[0] == ids[1] and len(set(ids[0].values())) == len(ids[0])


def test_a_secret_that_is_left_anywhere_fails_loudly_without_being_told(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "carrier.log").write_text(f"Authorization: Bearer {SECRET}")
    with pytest.raises(HarnessError, match=r"carrier\.log \(hf-token/token\)") as caught:
        scan(tmp_path, Redactor({"hf-token/token": SECRET}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("reached", "left"), [(Verdict.GO, Verdict.UNSAFE), (Verdict.NO_GO, Verdict.NO_GO)])
def test_a_go_whose_reports_hold_a_secret_is_none(tmp_path: Path, reached: Verdict, left: Verdict) -> None:
    Run(tmp_path).write()
    (tmp_path / "verdict.json").unlink()
    (tmp_path / "carrier.log").write_text(SECRET)
    heard: list[str] = []
    concluded: list[Verdict] = []
    assert reported(tmp_path, Redactor({"hf-token/token": SECRET}), reached, heard.append, concluded.append) is left
    assert concluded == ([left] if left is not reached else [])
    assert "not whole" in heard[0] and SECRET not in heard[0] and not (tmp_path / "verdict.json").exists()


def test_samples_of_a_carrier_that_was_stopped_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    whole = gzip.compress(f"one row\n{SECRET}\nthe last row\n".encode())
    (tmp_path / "samples.jsonl.gz").write_bytes(whole[:-8])
    scan(tmp_path, Redactor({"other": "another value"}))
    with pytest.raises(HarnessError, match=r"samples\.jsonl\.gz"):
        scan(tmp_path, Redactor({"hf-token/token": SECRET}))


def test_every_outcome_has_an_allure_status_of_its_own() -> None:
    assert len({allure_status(one) for one in Outcome}) == 4


def test_a_failure_reads_as_an_engineer_would_ask() -> None:
    assert live.lines(PENDING["scheduling.within"]) == [
        "FAIL scheduling.within: 1 of 2 pods on a node after 31s (limit 2m)",
        "  llama-7c9-x2x4k serving since 12s on gpu-a3",
        "  llama-7c9-9qk2p TERMINAL: Pending 31s: 0/6 nodes",
        "  blame: candidate",
    ]


def test_every_event_is_told_in_lines_a_terminal_only_prints(made: dict[str, Path]) -> None:
    assert live.lines(Told(line="a\x1b[2Jb\nc")) == ["a [2Jb c"]
    for line in (made["hostile"] / "record.jsonl").read_text().splitlines():
        event = json.loads(line)["event"]
        assert all(
            text.isprintable() for text in live.lines(Judged.model_validate(event) if event["type"] == "judged" else Closed())
        )


def test_a_row_of_the_checklist_is_never_better_than_its_worst_check(made: dict[str, Path]) -> None:
    rows = {row["row"]: row for row in said(made["unsafe"])["rows"]}
    assert rows["GPU scheduling and node affinity"]["outcome"] == "FAIL" and rows["rollback procedure"]["outcome"] == "FAIL"
    assert rows["TLS termination"]["outcome"] == "NOT_RUN" and rows["TLS termination"]["not_asked"] == {
        "edge.tls": "not in this version"
    }
    assert {row["row"]: row["in_part"] for row in said(made["go"])["rows"]}["model readiness checks"] is True

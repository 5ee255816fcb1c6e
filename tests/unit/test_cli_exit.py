"""The exit code of a run: the verdict's, never better than pytest's own, and never an older run's."""

import json
import os
from pathlib import Path

import pytest

from hotfire.cli import run_pytest
from hotfire.words import Verdict


def left(reports: Path, code: int, verdict: Verdict | None, *, tells: bool = True, phase: str | None = None) -> int:
    """Of a session that ended with this code, and wrote its pointer, and a verdict."""
    run = reports / "run"
    run.mkdir(parents=True, exist_ok=True)

    def main(arguments: list[str]) -> int:
        if tells:
            Path(arguments[arguments.index("--hotfire-pointer") + 1]).write_text(str(run))
        if verdict:
            (run / "verdict.json").write_text(json.dumps({"verdict": verdict, "exit_code": verdict.exit_code}))
        return code

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytest, "main", main)
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        return run_pytest(reports / "scenario.yaml", {"phase": phase}, (), reports)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_it_is_the_verdicts(tmp_path: Path, verdict: Verdict) -> None:
    assert left(tmp_path, verdict.exit_code, verdict) == verdict.exit_code
    assert not list(tmp_path.glob(".latest-*"))


@pytest.mark.parametrize(("code", "exits"), [(22, 22), (20, 20), (3, 3), (4, 4), (0, 21)])
def test_without_a_verdict_it_is_never_0_and_what_was_worse_stays(tmp_path: Path, code: int, exits: int) -> None:
    """22: a GO whose reports are not whole; page someone."""
    assert left(tmp_path, code, None) == exits


def test_a_session_that_broke_is_no_go_whatever_is_written(tmp_path: Path) -> None:
    assert left(tmp_path, 3, Verdict.GO) == 3


@pytest.mark.parametrize("code", [3, 4, 0])
def test_the_pointer_of_a_killed_process_of_the_same_number_is_not_followed(tmp_path: Path, code: int) -> None:
    (tmp_path / f".latest-{os.getpid()}").write_text(str(tmp_path / "run"))
    assert left(tmp_path, code, Verdict.GO, tells=False) == (code or 21)


@pytest.mark.parametrize("code", [0, 1, 4])
def test_a_run_that_waits_for_its_pipeline_has_no_verdict_yet(tmp_path: Path, code: int) -> None:
    assert left(tmp_path, code, None, phase="arm") == code

"""Bad input, as a user meets it: one line that says where, what and what is allowed; exit 4, no traceback, nothing touched."""

# ruff: noqa: E501 - one row of the table is one line

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotfire.cli import main
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")
FILES = {"scenario.yaml": base.SCENARIO, "manifests/all.yaml": base.MANIFESTS}
SCENARIO, MANIFESTS = FILES

# what -> (file, old, new, the line after the folder)
BAD: dict[str, tuple[str, str, str, str]] = {
    "unknown key": (SCENARIO, "slos:", "sloz:", "scenario.yaml:14:1: unknown key 'sloz', nearest allowed: slos"),
    "duplicate key": (SCENARIO, "restarts: 0", "restarts: 0, restarts: 1", "scenario.yaml:9:43: duplicate key 'restarts', first at 9:30, one of them is allowed"),
    "bare number": (SCENARIO, "60s", "60", "scenario.yaml:9:25: startup.ready_within: 60 is not a duration, a number with a unit is expected, such as 350ms, 30s, 2m, 1h"),
    "a gate that cannot fail": (SCENARIO, "< 20%", "< 100%", "scenario.yaml:16:22: errors ratio < 100%: no input can fail it, a share below 100% is expected"),
    "two faults of one name": (SCENARIO, "  - {name: one-pod", "  - {name: one-pod-gone, oom: one container, serving_again_within: 9s}\n  - {name: one-pod", "scenario.yaml:19:6: two faults are 'one-pod-gone', first at FOLDER/scenario.yaml:18:5, one is allowed"),
    "a cluster-scoped object": (MANIFESTS, "---\n", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n", "manifests/all.yaml:14:1: Namespace team is cluster-scoped, allowed only under prerequisites/"),
    "a workload that is not there": (MANIFESTS, "name: tiny, labels", "name: big, labels", "scenario.yaml:7:18: FOLDER/manifests holds no Deployment tiny, there is: big"),
    "a workload of nothing": (MANIFESTS, "replicas: 2", "replicas: 0", "manifests/all.yaml:1:1: Deployment tiny asks for 0 replicas and serves nothing, 1 or more is expected"),
}  # fmt: skip


def bad(folder: Path, name: str) -> tuple[Path, str]:
    """The scenario with one mistake, and the line it gets."""
    file, old, new, said = BAD[name]
    assert old in FILES[file]
    texts = FILES | {file: FILES[file].replace(old, new, 1)}
    path: Path = base.write(folder, texts[SCENARIO], all=texts[MANIFESTS])
    return path, f"{folder}/{said.replace('FOLDER', str(folder))}"


@pytest.mark.parametrize("name", BAD)
def test_lint_says_it_in_one_line(tmp_path: Path, name: str) -> None:
    path, line = bad(tmp_path, name)
    ended = CliRunner().invoke(main, ["lint", str(path)])
    assert (ended.exit_code, ended.stderr, ended.stdout) == (4, f"{line}\n", "")
    assert isinstance(ended.exception, SystemExit)


@pytest.mark.parametrize("name", ["unknown key", "a gate that cannot fail", "a cluster-scoped object"])
def test_run_says_it_before_anything_is_touched(tmp_path: Path, name: str) -> None:
    """There is no such kubeconfig: a run that asked for the cluster first would say so."""
    path, line = bad(tmp_path / "scenario", name)
    command = [
        sys.executable,
        "-m",
        "hotfire.cli",
        "run",
        str(path),
        "--kubeconfig",
        "none",
        "--reports",
        str(tmp_path / "reports"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.strip(), ended.stdout) == (4, f"ERROR: {line}", "")
    assert [one.name for one in tmp_path.iterdir() if one.name != "scenario"] == ["reports"] and not any(
        (tmp_path / "reports").iterdir()
    )


def test_what_was_made_bad_is_fit_without_its_mistake(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["lint", str(base.write(tmp_path))])
    assert (ended.exit_code, ended.stderr, ended.stdout) == (0, "", f"{tmp_path}/scenario.yaml: fit for a run\n")

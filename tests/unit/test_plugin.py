"""The plugin in a pytest of its own, without a scenario: inert, but for the marker it registers and the checks it refuses."""

import os
import subprocess
import sys
from pathlib import Path

MARKED = "import pytest\n\n@pytest.mark.k8s(provider='embedded')\ndef test_a():\n    pass\n"
CHECKED = (
    "from hotfire.check import Evidence, check\n\n"
    "@check('startup.within', needs=Evidence('ready-pod'))\ndef test_a():\n    pass\n"
)


def inner(folder: Path, text: str, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_inner.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "hotfire.plugin", "--strict-markers", *options, str(folder)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_marker_of_pytest_kubernetes_is_registered(tmp_path: Path) -> None:
    ended = inner(tmp_path, MARKED, "-p", "pytest_kubernetes.plugin")
    assert ended.returncode == 0 and "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_a_check_without_a_scenario_is_a_usage_error_and_never_a_pass(tmp_path: Path) -> None:
    ended = inner(tmp_path, CHECKED)
    assert ended.returncode == 4 and "passed" not in ended.stdout
    assert "is a hotfire check: give --hotfire-scenario FILE" in ended.stdout + ended.stderr


def test_a_look_at_checks_is_no_success(tmp_path: Path) -> None:
    ended = inner(tmp_path, CHECKED, "--collect-only")
    assert ended.returncode == 5 and "test_inner.py::test_a" in ended.stdout


def test_tests_of_others_are_left_alone(tmp_path: Path) -> None:
    ended = inner(tmp_path, "def test_a():\n    pass\n", "--collect-only")
    assert ended.returncode == 0


def test_a_scenario_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ended = inner(tmp_path, CHECKED, "--hotfire-scenario", str(tmp_path / "none.yaml"))
    assert ended.returncode == 4 and "not found, a scenario file is expected" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr

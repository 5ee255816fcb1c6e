"""The plugin in a pytest of its own: inert without a scenario, and with one it refuses whatever could pass without a look."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotfire.plugin import NEEDED_PLUGINS, REFUSED_OPTIONS, REFUSED_PLUGINS

ROOT = Path(__file__).parents[2]
MARKED = "import pytest\n\n@pytest.mark.k8s(provider='embedded')\ndef test_a():\n    pass\n"
CHECKED = (
    "from hotfire.check import Evidence, check\n\n"
    "@check('startup.within', needs=Evidence('ready-pod'))\ndef test_a():\n    pass\n"
)


def inner(folder: Path, text: str, *options: str, python: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    (folder / "test_inner.py").write_text(text)
    command = [sys.executable, *python, "-m", "pytest", "-q", "-p", "hotfire.plugin", "--strict-markers", *options, str(folder)]
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


# What others' plugins declare (pytest-xdist 3.8, -rerunfailures 16.7, -random-order 1.2, -randomly 5.1, flaky 3.8), by module;
# with -f xdist loops over runs in processes of its own, and this one is never configured.
STAND_INS = {
    "xdist/plugin": [
        "'-n', dest='numprocesses'", "'--tx', dest='tx', action='append', default=[]",
        "'-f', dest='looponfail', action='store_true'",
    ],
    "random_order/plugin": [
        "'--random-order', dest='random_order_enabled', action='store_true'",
        "'--random-order-bucket', dest='random_order_bucket', default='default:module'",
        "'--random-order-seed', dest='random_order_seed', default='default:1'",
    ],
    "pytest_rerunfailures": ["'--reruns', dest='reruns', type=int"],
    "pytest_randomly": [],
    "flaky/flaky_pytest_plugin": [],
}  # fmt: skip
LOOPS = "def pytest_cmdline_main(config):\n    return 2 if config.option.looponfail else None\n"
XDIST, ORDER = ("-p", "xdist.plugin"), ("-p", "random_order.plugin")
REFUSED: dict[str, tuple[str, ...]] = {  # what the refusal names -> the options of pytest
    "-n": (*XDIST, "-n", "2"),
    "--tx": (*XDIST, "--tx", "popen"),
    "-f": (*XDIST, "-f"),
    "--reruns": ("-p", "pytest_rerunfailures", "--reruns", "3"),
    "--lf": ("--last-failed",),
    "--ff": ("--failed-first",),
    "--nf": ("--new-first",),
    "--sw": ("--stepwise",),
    "--setup-only": ("--setup-only",),
    "--setup-plan": ("--setup-plan",),
    "--random-order": (*ORDER, "--random-order"),
    "--random-order-bucket": (*ORDER, "--random-order-bucket", "global"),
    "--random-order-seed": (*ORDER, "--random-order-seed", "7"),
    "the plugin pytest_randomly": ("-p", "pytest_randomly"),
    "the plugin pytest_rerunfailures": ("-p", "pytest_rerunfailures"),
    "the plugin flaky": ("-p", "flaky.flaky_pytest_plugin"),
    "-p no:hotfire-certification": ("-p", "no:hotfire-certification"),
    "-p no:hotfire-nouns": ("-p", "no:hotfire-nouns"),
    "-p no:assertion": ("-p", "no:assertion"),
    "--assert=plain": ("--assert=plain",),
    "python -O (asserts do not run)": (),
}


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose pytest can load the stand-ins."""
    for module, options in STAND_INS.items():
        file = tmp_path / "others" / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        add = "".join(f"    parser.getgroup('others')._addoption({one})\n" for one in options)
        file.write_text(f"def pytest_addoption(parser):\n{add}    pass\n\n\n{LOOPS if 'xdist' in module else ''}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "others"), prepend=os.pathsep)
    return tmp_path


@pytest.mark.parametrize("named", REFUSED)
def test_a_way_of_running_that_could_pass_blindly_is_refused_by_name(beside: Path, named: str) -> None:
    options = ("--hotfire-scenario", "none.yaml", *REFUSED[named])
    ended = inner(beside, CHECKED, *options, python=("-O",) * named.startswith("python"))
    said = [line for line in ended.stderr.splitlines() if "hotfire does not run with " in line]
    names = said[0].partition("does not run with ")[2].partition(": checks run once, in order, in one process")[0].split(", ")
    assert ended.returncode == 4 and len(said) == 1 and named in names, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_every_refusal_is_tried() -> None:
    ours = {*REFUSED_OPTIONS.values(), *(f"the plugin {name}" for name in REFUSED_PLUGINS)}
    assert ours | {f"-p no:{name}" for name in NEEDED_PLUGINS} <= set(REFUSED)


def test_a_plugin_that_is_loaded_and_not_asked_is_no_reason_to_refuse(beside: Path) -> None:
    ended = inner(beside, CHECKED, *XDIST, *ORDER, "--hotfire-scenario", "none.yaml")
    assert ended.returncode == 4 and "not found, a scenario file is expected" in ended.stderr, ended.stdout + ended.stderr


# -- `hotfire run` ----------------------------------------------------------------------------------------------------

STRAY = "from pathlib import Path\nPath('stray.log').write_text('loaded')\n"
WAYS = {"options": {"PYTEST_ADDOPTS": "--collect-only"}, "plugins": {"PYTEST_PLUGINS": "stray"}, "an installed plugin": {}}


@pytest.mark.parametrize("way", WAYS)
def test_run_takes_nothing_from_its_surroundings(tmp_path: Path, way: str) -> None:
    """What the environment or an installation adds to every other pytest; the run gets as far as its missing kubeconfig."""
    (tmp_path / "stray.py").write_text(STRAY)
    (tmp_path / "stray-1.dist-info").mkdir()
    (tmp_path / "stray-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 1\n")
    (tmp_path / "stray-1.dist-info/entry_points.txt").write_text("[pytest11]\nstray = stray\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    found = os.pathsep.join([str(tmp_path), kept.get("PYTHONPATH", "")])
    words = ["--image", f"llamacpp=registry.example/l@sha256:{'a' * 64}", "--kubeconfig", "none", "--reports", "reports"]
    ended = subprocess.run(
        [sys.executable, "-m", "hotfire.cli", "run", str(ROOT / "scenarios/smollm-sound"), *words],
        cwd=tmp_path, env={**kept, "PYTHONPATH": found, **WAYS[way]}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 4 and "kubeconfig" in ended.stderr and ended.stdout == "", ended.stdout + ended.stderr
    assert not (tmp_path / "stray.log").exists()

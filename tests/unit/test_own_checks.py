"""A scenario's own checks are planned like the suites', and what is wrong with them is said before a run opens."""

from pathlib import Path

import pytest
import yaml

from hotfire.check import catalogue, plan
from hotfire.errors import BadInput
from hotfire.own_checks import checks_of
from hotfire.scenario.loader import load
from hotfire.scenario.model import Located
from tests.planted_run import MANIFESTS, SCENARIO

GOOD = """from hotfire.check import Evidence, check


@check("cache.second-start", needs=Evidence("start", per="serving-pod"), row="persistent storage and cache", gate="advisory")
def test_a_second_start_is_faster():
    \"\"\"The cache is read.\"\"\"
"""


def planted(folder: Path, checks: list[str], **files: str) -> Located:
    (folder / "manifests").mkdir(exist_ok=True)
    (folder / "manifests" / "all.yaml").write_text(MANIFESTS)
    (folder / "checks").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "checks" / f"{name}.py").write_text(text)
    data = yaml.safe_load(SCENARIO) | {"checks": checks}
    (folder / "scenario.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return load(folder / "scenario.yaml", "n")


def test_they_are_planned_with_what_they_say(tmp_path: Path) -> None:
    located = planted(tmp_path, ["checks/test_*.py", "checks/test_75_cache.py"], test_75_cache=GOOD)
    *hotfires, own = plan(checks_of(located), located.scenario)
    assert len(hotfires) == len(plan(catalogue(), located.scenario))
    assert (own.key, own.suite, own.gate, own.evidence, own.question) == (
        "cache.second-start", "test_75_cache", "advisory", "1 start per serving-pod", "The cache is read.",
    )  # fmt: skip


def test_no_checks_is_hotfires_alone(tmp_path: Path) -> None:
    assert checks_of(planted(tmp_path, [])) == catalogue()


@pytest.mark.parametrize("pattern", ["checks/test_none.py", "manifests/*", "checks", "/etc/test_*.py", "checks/conftest.py"])
def test_a_pattern_without_a_test_file_is_refused_with_its_place(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(BadInput, match=r"scenario\.yaml:\d+:\d+: checks: .* files test_\*\.py beside the scenario"):
        planted(tmp_path, [pattern], test_75_cache=GOOD, conftest="")


WRONG = {
    "no Python": ("def", r"1:\d+: invalid syntax, a Python module is expected"),
    "no test": ("x = 1", "1:1: no test, functions test_… with"),
    "a plain test": ("def test_a():\n    pass", r"1:1: test_a has no @check\(id"),
    "no literal": (GOOD.replace('"cache.second-start"', "NAME"), "5:1: @check of test_a_second_start.* literals"),
    "no gate of ours": (GOOD.replace('"advisory"', '"maybe"'), "5:1: @check of .*'maybe' is not a valid Gate"),
    "an id of hotfire's": (GOOD.replace("cache.second-start", "load.slo"), "5:1: the name load.slo is one of hotfire's own"),
    "an id twice": (GOOD + GOOD.replace("test_a", "test_b").partition("\n\n\n")[2], "that of .*5:1, another is expected"),
    "a bare id": (GOOD.replace("cache.second-start", "Cache"), "5:1: the id 'Cache' is not allowed"),
    "an id judged after the decision": (
        GOOD.replace("cache.second", "settle.second"),
        "the id 'settle.second-start' is not",
    ),
    "evidence of nothing": (
        GOOD.replace('per="serving-pod"', "at_least=0"),
        "at_least 0 lets a check pass that",
    ),
    "half of an evidence": (GOOD.replace('per="serving-pod"', "at_least=1.5"), "at_least 1.5 lets a check pass"),
    "evidence of two words": (
        GOOD.replace('Evidence("start"', 'Evidence("first start"'),
        "evidence of 'first start' is not",
    ),
    "no evidence": (GOOD.replace('Evidence("start", per="serving-pod")', '"start"'), "needs 'start' is no evidence, such as"),
    "no row": (GOOD.replace("persistent storage", "persistent"), "5:1: the row 'persistent and cache' is unknown"),
    "no such per": (GOOD.replace('row="persistent storage and cache"', 'per="pods"'), "per 'pods' is not allowed, one of slos"),
    "no such when": (GOOD.replace('row="persistent storage and cache"', 'when="lod"'), "when 'lod' is no place of a scenario"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, name: str) -> None:
    text, said = WRONG[name]
    with pytest.raises(BadInput, match=said) as caught:
        checks_of(planted(tmp_path, ["checks/*.py"], test_75_cache=text))
    assert len(caught.value.lines) == 1 and caught.value.lines[0].startswith(str(tmp_path / "checks" / "test_75_cache.py:"))


def test_the_name_of_a_suite_is_taken(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a suite of hotfire's, another name is expected"):
        checks_of(planted(tmp_path, ["checks/*.py"], test_70_load=GOOD))

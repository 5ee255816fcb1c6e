"""A scenario's own checks in a run of real pytest: collected, planned, judged and reported like the suites'."""

from collections.abc import Sequence

import pytest

from tests.planted_run import Ended, Ground, planted_suite

CONFTEST = "import pytest\n\n\n@pytest.fixture\ndef starts(scenario):\n    return [1.0, 0.25]\n"
OWN = '''"""Cache: is a second start faster?"""

from hotfire.check import Evidence, check, saw


@check("cache.second-start", needs=Evidence("start", at_least=2), row="persistent storage and cache")
def test_a_second_start_is_faster(starts):
    """The second start reads the cache."""
    {body}


@check("cache.asked", needs=Evidence("answer"), per="candidate.serves", when="load")
def test_under_load(service):
    """Never asked: the scenario declares no load."""
    assert service is None
'''
KEY = "cache.second-start"
GREEN = "saw('start', len(starts)); assert starts[1] < starts[0] / 2"


def ran(ground: Ground, body: str, options: Sequence[str] = ()) -> Ended:
    ground.plant(planted_suite(), {"checks": ["checks/test_*.py"]})
    (ground.folder / "checks").mkdir()
    (ground.folder / "checks" / "conftest.py").write_text(CONFTEST)
    (ground.folder / "checks" / "test_95_cache.py").write_text(OWN.format(body=body))
    return ground.run(*options)


def test_it_is_planned_runs_before_settle_and_is_in_every_report(ground: Ground) -> None:
    ended = ran(ground, GREEN)
    assert ended.check(KEY)["outcome"] == "PASS" and ended.reported(KEY) == ("passed", "passed"), ended.output
    assert (ended.check("cache.asked")["outcome"], ended.check("cache.asked")["reason"]) == ("NOT_RUN", "not-asked")
    stages = [event["suite"] for event in ended.events if (event["type"], event.get("phase")) == ("stage", "began")]
    assert stages.index("test_95_cache") == len(stages) - 2 and stages[-1] == "test_90_settle"
    assert ended.decided[0] == "CONFIRM"
    (row,) = [row for row in ended.verdict["rows"] if row["row"] == "persistent storage and cache"]
    assert (row["outcome"], row["in_part"]) == ("PASS", True)


ENDS = {  # name -> (body, options, outcome, reason)
    "it fails": ("saw('start', 2); assert starts[0] < starts[1]", (), "FAIL", "breach"),
    "green without its evidence": ("saw('start', 1)", (), "INVALID", "no-evidence"),
    "deselected": (GREEN, ("-k", "not second"), "NOT_RUN", "silent"),
}


@pytest.mark.parametrize("name", ENDS)
def test_it_decides_like_any_other_check(ground: Ground, name: str) -> None:
    body, options, outcome, reason = ENDS[name]
    ended = ran(ground, body, options)
    found = ended.check(KEY)
    assert (found["outcome"], found["reason"], ended.decided[0]) == (outcome, reason, "ROLL_BACK"), ended.output


def test_what_is_wrong_with_it_is_said_before_anything_is_touched(ground: Ground) -> None:
    ended = ran(ground, "def")
    assert ended.code == 4 and "test_95_cache.py:9:" in ended.output and "Traceback" not in ended.output
    assert ground.left == []

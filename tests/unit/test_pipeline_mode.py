"""Which commands go with which scenario, and which suites each of them asks."""

from pathlib import Path

import pytest

from hotfire.check import catalogue
from hotfire.errors import BadInput
from hotfire.plugin.pipeline import Phase
from hotfire.plugin.run import unarmed
from hotfire.scenario.loader import load
from hotfire.scenario.model import Located
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_scenario_loader")


def located(folder: Path, rollout: str = "") -> Located:
    return load(base.write(folder, base.SCENARIO.replace("about:", f"mode: promote\nusers: none\n{rollout}about:")))


PIPELINE = "rollout: {by: pipeline}\n"


@pytest.mark.parametrize(
    ("phase", "rollout", "says"),
    [
        (Phase.WHOLE, "", ""),
        (Phase.ARM, PIPELINE, ""),
        (
            Phase.WHOLE,
            "rollout: {by: pipeline}\n",
            "6:1: a pipeline deploys it: `hotfire arm`, `verify` and `settle` are expected",
        ),
        (Phase.ARM, "", ": hotfire deploys it itself: `hotfire run`, or `rollout: {by: pipeline}` for `hotfire arm`"),
    ],
)
def test_each_command_goes_with_its_scenario(tmp_path: Path, phase: Phase, rollout: str, says: str) -> None:
    lines = phase.fits(located(tmp_path, rollout))
    assert len(lines) == bool(says) and all(says in line for line in lines)


def test_a_pipeline_is_not_waited_for_without_a_watchdog(tmp_path: Path) -> None:
    assert unarmed(located(tmp_path)) == []
    assert "needs the watchdog, which holds the Lease meanwhile" in unarmed(located(tmp_path / "by", PIPELINE))[0]


def test_a_consent_to_something_else_is_refused_where_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        located(tmp_path, f"{PIPELINE}consent: [suspend]\n")
    assert "scenario.yaml:7:11: consent" in refused.value.lines[0] and "suspend-sync" in refused.value.lines[0]


def test_arm_and_verify_ask_every_check_between_them_and_settle_the_last() -> None:
    suites = {spec.suite for spec in catalogue()}
    arm, verify = ({suite for suite in suites if phase.asks(suite)} for phase in (Phase.ARM, Phase.VERIFY))
    assert arm == {"test_10_preflight"} and not arm & verify and suites - arm - verify == {"test_90_settle"}
    assert all(Phase.WHOLE.asks(suite) for suite in suites)

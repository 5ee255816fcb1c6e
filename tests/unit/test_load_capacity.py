"""What a client can carry is told in shares of a CPU, before anything is sent."""

from pathlib import Path

import pytest

from hotfire.load.capacity import Capacity, known, remember
from hotfire.load.plan import Plan, Prompt, draw
from hotfire.scenario.model import Load

ONE = Capacity(us_per_request=200.0, us_per_token=10.0, share=1.0)


def planned(folder: Path, arrivals: str, requests: int, tokens: int) -> Plan:
    return draw(folder / "plan.jsonl", arrivals, [Prompt("p", "hello")], [requests], max_tokens=tokens)


@pytest.mark.parametrize(("arrivals", "needed"), [("constant 100/s", 0.04), ("steps 100/s 500/s each 10s", 0.2)])
def test_a_plan_needs_what_its_busiest_seconds_cost(tmp_path: Path, arrivals: str, needed: float) -> None:
    assert ONE.needed(planned(tmp_path, arrivals, 6000, 20)) == pytest.approx(needed, rel=0.02)


def test_slices_share_what_a_plan_needs(tmp_path: Path) -> None:
    plan = planned(tmp_path, "constant 100/s", 1000, 20)
    assert ONE.needed(plan, 4) == pytest.approx(ONE.needed(plan) / 4)


def test_one_burst_is_no_steady_rate(tmp_path: Path) -> None:
    assert ONE.needed(planned(tmp_path, "bursts 400 every 10s", 2000, 20)) == pytest.approx(0.032)


def test_streams_are_told_at_fifty_tokens_a_second() -> None:
    assert ONE.streams == 1900 and Capacity(200.0, 10.0, 0.5).streams == 950


def test_more_than_it_can_carry_has_a_cause_and_a_remedy() -> None:
    assert ONE.told(0.94)["cause"] == "" == ONE.told(0.94)["remedy"]
    assert "needs 120% of a CPU, this client can carry 95%" in ONE.told(1.2)["cause"]
    assert "lower the rate" in ONE.told(1.2)["remedy"]


def test_a_quota_is_named_as_what_holds_it() -> None:
    assert "a quota holds it (it got 5%)" in Capacity(200.0, 10.0, 0.05).told(0.1)["remedy"]


@pytest.mark.parametrize(("rate", "verdict"), [("8/s", "within the 95%"), ("9000/s", "MORE than the 95%")])
def test_a_plan_is_told_of_the_last_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: str, verdict: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load = Load.model_validate({"arrivals": f"poisson {rate}"})
    assert "not calibrated" in known(load)
    remember(ONE.told(0.1))
    assert verdict in known(load) and "1,900 streams" in known(load)


def test_a_spaced_load_needs_no_calibration() -> None:
    assert "not needed" in known(Load.model_validate({"arrivals": "spaced 1s"}))

"""A load says first what its client can carry, and sends nothing when the plan asks for more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotfire.errors import Unjudged
from hotfire.load.plan import Plan
from hotfire.load.run import LoadRun
from hotfire.load.target import Target
from hotfire.words import Reason


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_it_can_carry_is_in_the_client_check(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    target = Target(truthful("--ttft", "4", "--itl", "2").url, "chat", "m")
    with LoadRun.start(planned("constant 50/s", 20), target, tmp_path / "out", calibrate=True) as load:
        load.wait_look(1)
        told = load.stop().client["calibration"]
    assert 1 < told["us_per_token"] < 200 and 10 < told["us_per_request"] < 5000 and 0 < told["share"] <= 1
    assert told["needs"] < told["carries"] and told["cause"] == ""


def test_a_plan_beyond_the_client_is_invalid_before_a_request_is_sent(
    scripted: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = scripted({})
    plan = planned("constant 20000/s", 40000)
    with pytest.raises(Unjudged, match="this client can carry") as refused:
        LoadRun.start(plan, Target(server.url, "chat", "m"), tmp_path / "out", calibrate=True)
    assert refused.value.reason is Reason.CLIENT and "no request was sent" in refused.value.details
    assert server.opened == 0


def test_a_spaced_load_is_not_kept_waiting_and_says_so(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    target = Target(truthful("--ttft", "4", "--itl", "2").url, "chat", "m")
    with LoadRun.start(planned("spaced 20ms", 5), target, tmp_path / "out", calibrate=True) as load:
        load.wait_look(1)
        assert "not needed" in load.stop().client["calibration"]["skipped"]

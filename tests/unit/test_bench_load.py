"""Which of its runs the load's bench counts: what the client says against itself is never left out."""

from pathlib import Path
from typing import Any

import pytest

from tests.neighbour import neighbour


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    return neighbour("bench/load")


def test_of_how_many_runs_the_client_refused_is_said(bench: Any) -> None:
    kinds = [(0.05, False, 0.0), (1.0, True, 0.0), (1.0, False, 0.02), (None, True, 0.0), (None, False, 0.0)]
    found = bench.refused([{"quota": quota, "sound": sound, "client": {"steal": steal}} for quota, sound, steal in kinds])
    assert found == {
        "invalid_when_starved": 1, "invalid_when_starved_of": 1, "invalid_when_overloaded": 1, "invalid_when_overloaded_of": 2,
        "invalid_when_sound": 0, "invalid_when_sound_of": 1,
    }  # fmt: skip


GOOD: dict[str, Any] = {"p99_gap_true_ms": 20.4, "ratio": 1.01, "tokens_lost": 0, "sound": True, "client": {"steal": 0.0}}


@pytest.mark.parametrize(
    ("changed", "counted", "good"),
    [
        ({}, True, True),
        ({"sound": False}, True, False),
        ({"ratio": 1.06}, True, False),
        ({"tokens_lost": 1}, True, False),
        ({"p99_gap_true_ms": 31.0}, False, True),
        ({"client": {"steal": 0.02}}, False, True),
    ],
)
def test_a_run_is_left_out_for_the_machine_alone(bench: Any, changed: dict[str, Any], counted: bool, good: bool) -> None:
    row = GOOD | changed
    assert (not bench.disturbed(row), bench.within(row)) == (counted, good)

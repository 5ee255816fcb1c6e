"""Which of its runs the load's bench counts: what the client says against itself is never left out."""

from pathlib import Path
from typing import Any

import pytest

from tests.neighbour import neighbour


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    return neighbour("bench/load")


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

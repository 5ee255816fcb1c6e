"""What the load's questions make of samples written by hand."""

from types import SimpleNamespace

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.plugin.nouns.load import LoadNoun
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_load_samples")
SPEC = CheckSpec("load.stall", Evidence("request"))


@pytest.mark.parametrize(("begin", "length", "found"), [(0, 6, 0.0), (0, 9, 2.0), (8, 3, 3.0)])
def test_a_cold_start_is_no_stall_and_a_freeze_that_outlasts_it_is(begin: int, length: int, found: float) -> None:
    noun = LoadNoun(SimpleNamespace(scenario=SimpleNamespace(stall=SimpleNamespace(max=5.0))))  # type: ignore[arg-type]
    rows = (base.row(-1, 0.0, 6.0, 6.1), base.row(0, 7.0, 0.1, 0.2), base.row(1, 8.0, 0.1, 0.2))
    noun._samples, noun._requests = base.samples(*rows, silences=((begin * 10**6, length * 10**6),)), 2
    with running(SPEC.id, SPEC, lambda _: None):
        assert noun.longest_silence() == pytest.approx(found)

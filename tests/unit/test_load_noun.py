"""What the load's questions make of samples written by hand."""

from types import SimpleNamespace

import pytest

from hotfire.check import CheckSpec, Evidence, running
from hotfire.errors import HarnessError, Unjudged
from hotfire.plugin.nouns.load import LoadNoun
from hotfire.words import Reason
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_load_samples")
SPEC = CheckSpec("load.stall", Evidence("request"))


def quiet() -> LoadNoun:
    """Of a load that is over, with a sound client and a platform that did nothing."""
    run = SimpleNamespace(scenario=None)  # no cluster: nothing else of the run is asked once the load is over
    noun = LoadNoun(run)  # type: ignore[arg-type]
    noun._client, noun._disturbed = {"sound": True}, []
    return noun


@pytest.mark.parametrize(("begin", "length", "found"), [(0, 6, None), (0, 9, 2.0), (8, 3, 3.0)])
def test_a_cold_start_is_no_stall_and_a_freeze_that_outlasts_it_is(begin: int, length: int, found: float | None) -> None:
    noun = quiet()
    rows = (base.row(-1, 0.0, 6.0, 6.1), base.row(0, 7.0, 0.1, 0.2), base.row(1, 8.0, 0.1, 0.2))
    noun._samples, noun._requests = base.samples(*rows, silences=((begin * 10**6, length * 10**6),)), 2
    with running(SPEC.id, SPEC, lambda _: None):
        assert noun.silences(1.9).observed == (found and pytest.approx(found)) and noun.silences(3.0) == []


@pytest.mark.parametrize(
    ("sound", "platform", "blame"), [(True, [], "candidate"), (True, ["node-1 NotReady"], "platform"), (False, [], "harness")]
)
def test_a_silence_is_whose_doing_the_evidence_says(sound: bool, platform: list[str], blame: str) -> None:
    noun = quiet()
    noun._samples, noun._requests = base.samples(base.row(0, 0.0, 0.1, 9.0), silences=((10**6, 7 * 10**6),)), 1
    noun._client, noun._disturbed = {"sound": sound}, platform
    with running(SPEC.id, SPEC, lambda _: None):
        found = noun.silences(5.0)
    assert (found.blame, found.reason, found.observed) == (blame, Reason.STALLED, pytest.approx(7.0))


def test_a_load_that_is_lost_after_a_look_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lost it, the samples of the first look answer no later question."""
    noun = quiet()

    def carry() -> None:
        noun._samples, noun._requests = base.samples(base.row(0, 0.0, 0.1, 0.2)), 1
        raise HarnessError("samples.jsonl.gz is not what its carrier wrote")

    monkeypatch.setattr(noun, "_carry", carry)
    with running(SPEC.id, SPEC, lambda _: None), pytest.raises(HarnessError):
        noun.silences(5.0)
    with running(SPEC.id, SPEC, lambda _: None), pytest.raises(Unjudged, match="the load was lost: HarnessError"):
        noun.silences(5.0)

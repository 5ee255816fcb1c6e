"""A candidate against stored runs: by their own noise, on runs of the same kind alone, and judged again offline."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hotfire.check import catalogue, running
from hotfire.errors import Unjudged
from hotfire.gates.regression import judge_regression
from hotfire.load import samples
from hotfire.plugin.nouns.load import LoadNoun
from hotfire.record.events import Event, Gated, Judged, Seen
from hotfire.report import objective
from hotfire.report.judge import judge
from hotfire.report.stored import Key, Stored, comparable
from hotfire.report.story import Story
from hotfire.scenario.model import Scenario
from hotfire.words import Blame, Outcome, Reason, Verdict
from tests.recorded_run import Run, said, scenario


def outcome(value: float, stored: Iterable[float], margin: float = 0.1, gates: int = 1) -> Outcome | None:
    return judge_regression(
        value, list(stored), margin, confidence=0.95, required_gates=gates, requests=100, look=1
    ).outcome  # fmt: skip


CALM, NOISY = (1.0, 1.01, 0.99, 1.005), (0.7, 1.0, 1.4, 0.9)


@pytest.mark.parametrize(("value", "stored", "found"), [
    (1.02, CALM, Outcome.PASS), (0.5, CALM, Outcome.PASS), (1.3, CALM, Outcome.FAIL), (1.11, CALM, Outcome.INVALID),
    (1.0, NOISY, Outcome.INVALID), (9.0, NOISY, Outcome.FAIL), (math.inf, CALM, Outcome.FAIL), (1.0, (1.0,) * 3, Outcome.PASS),
])  # fmt: skip
def test_what_the_noise_of_the_stored_runs_can_tell(value: float, stored: Iterable[float], found: Outcome) -> None:
    assert outcome(value, stored) is found


def test_the_interval_is_students_prediction_interval() -> None:
    seen = judge_regression(1.2, [1.0, 1.1, 1.05], 0.1, confidence=0.95, required_gates=1, requests=9, look=1)
    mean, sd = np.log([1.0, 1.1, 1.05]).mean(), np.log([1.0, 1.1, 1.05]).std(ddof=1)
    sides = [s * sd * math.sqrt(4 / 3) for s in (-6.964557, 2.919986)]  # the table's t of two degrees of freedom: 99 and 95 %
    assert [seen.lower, seen.upper] == pytest.approx([math.expm1(math.log(1.2) - mean + side) for side in sides], rel=1e-5)
    assert "14.4% slower, by their own noise 22.0% faster to 34.3% slower at 95%, at most 10% slower" in seen.detail


@pytest.mark.parametrize("bad", [(1.0, [1.0, 1.0]), (1.0, [1.0, 0.0, 1.0]), (1.0, [1.0, math.inf, 1.0]), (math.nan, CALM)])
def test_what_cannot_be_compared_is_unjudged(bad: tuple[float, list[float]]) -> None:
    with pytest.raises(Unjudged):
        outcome(*bad)


@pytest.mark.parametrize("runs", [3, 6])
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_at_the_margin_itself_it_decides_wrongly_as_often_as_it_says(runs: int, noise: float) -> None:
    rng = np.random.default_rng(runs)
    found = [outcome(1.1 * math.exp(x[0]), np.exp(x[1:])) for x in noise * rng.standard_normal((2_000, runs + 1))]
    assert 0.035 < found.count(Outcome.PASS) / 2_000 < 0.065
    assert 0.003 < found.count(Outcome.FAIL) / 2_000 < 0.02


def test_more_gates_make_it_harder_to_fail_and_not_to_pass() -> None:
    assert [outcome(1.25, CALM, gates=many) for many in (1, 100)] == [Outcome.FAIL, Outcome.INVALID]
    assert [outcome(1.02, CALM, gates=many) for many in (1, 100)] == [Outcome.PASS, Outcome.PASS]


# -- on runs --------------------------------------------------------------------------------------------------------


@dataclass
class Compared(Run):
    """A run that is compared with stored ones, as the plugin does it."""

    stored: tuple[Path, ...] = ()

    def check(self, key: str, blocked: bool) -> Iterable[Event]:
        if not key.startswith("load.regression"):
            yield from super().check(key, blocked)
            return
        slo = next(one for one in self.scenario.slos if key.endswith(f"[{one.id}]"))
        runs = [Stored.read(folder, "objectives") for folder in self.stored]
        comparable(runs, Key.of(self.recorder.entries[0].event, self.event))
        described = self.gated(slo.id).gate
        gate = objective.describe_regression(slo, runs, 0.1, described)
        found = samples.read(self.folder / self.event.samples)
        self.judgement = objective.judge(found, gate, look=1, last_look=True)
        yield Seen(check=key, noun="certified-run", count=len(runs))
        yield Gated(
            check=key, load="objectives", look=1, last_look=True, gate=gate, judgement=self.judgement.as_record()
        )  # fmt: skip
        yield self.slo_judged(key)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folders = tuple(tmp_path_factory.mktemp(f"stored-{slow}") for slow in (0.99, 1.0, 1.01))
    for folder, slow in zip(folders, (0.99, 1.0, 1.01), strict=True):
        assert Run(folder, slow=slow, run=folder.name).write() is Verdict.GO
    return folders


def asked(**changes: Any) -> Any:
    compare = {"runs": ["a", "b", "c"], "margin": "10%"}
    return Scenario.model_validate(scenario().model_dump() | {"compare": compare} | changes)


@pytest.mark.parametrize(("slow", "verdict"), [(1.02, Verdict.GO), (0.6, Verdict.GO), (1.4, Verdict.NO_GO)])
def test_a_regression_within_every_limit_is_no_go(
    tmp_path: Path, stored: tuple[Path, ...], slow: float, verdict: Verdict
) -> None:
    assert Compared(tmp_path, scenario=asked(), slow=slow, stored=stored).write() is verdict
    again = judge(tmp_path)
    assert (again.verdict, again.agrees) == (verdict, True), again.differences
    gates = {gate["check"]: gate for gate in said(tmp_path)["gates"]}
    assert {"load.regression[e2e-p80]", "load.regression[ttft-p80]"} < set(gates)
    assert [one["run"] for one in gates["load.regression[e2e-p80]"]["gate"]["stored"]] == [one.name for one in stored]
    assert "<td>regression e2e</td><td>&lt; 10 %</td>" in (tmp_path / "certificate.html").read_text()


def test_judge_finds_a_comparison_that_was_made_up(tmp_path: Path, stored: tuple[Path, ...]) -> None:
    class Forger(Compared):
        def check(self, key: str, blocked: bool) -> Iterable[Event]:
            for event in super().check(key, blocked):
                good = {"outcome": "PASS", "reason": None}
                forged = isinstance(event, Gated) and key.startswith("load.regression")
                yield event.model_copy(update={"judgement": event.judgement | good}) if forged else event

        def slo_judged(self, key: str) -> Any:
            return Judged(check=key, outcome=Outcome.PASS)

    assert Forger(tmp_path, scenario=asked(), slow=1.4, stored=stored).write() is Verdict.GO
    assert judge(tmp_path).verdict is Verdict.UNSAFE


@pytest.mark.parametrize(("change", "says"), [
    ({"accelerators": "real"}, "is of another accelerators: simulated there, real here"),
    ({"stand": "Kubernetes v1.40"}, "is of another stand"), ({"load": "0" * 64}, "is of another load"),
    ({"to": "deployment/other"}, "is of another to"),
])  # fmt: skip
def test_only_runs_of_the_same_kind_are_compared(stored: tuple[Path, ...], change: dict[str, str], says: str) -> None:
    runs = [Stored.read(folder, "objectives") for folder in stored]
    comparable(runs, runs[0].key)
    with pytest.raises(Unjudged, match=says):
        comparable(runs, Key(**(vars(runs[0].key) | change)))


def test_stored_runs_are_of_one_candidate_each_once(stored: tuple[Path, ...]) -> None:
    one, two, _ = (Stored.read(folder, "objectives") for folder in stored)
    with pytest.raises(Unjudged, match="named twice"):
        comparable([one, two, one], one.key)
    with pytest.raises(Unjudged, match="several candidates"):
        comparable([one, Stored(**(vars(two) | {"candidate": "another"}))], one.key)


def test_what_is_no_whole_go_is_not_compared_with(tmp_path: Path, stored: tuple[Path, ...]) -> None:
    Run(tmp_path / "slow", slow=8.0).write()
    Run(tmp_path / "changed").write()
    (tmp_path / "changed" / "load/objectives/samples.jsonl.gz").write_bytes(b"")
    for name, reason in (("nothing", Reason.NO_DATA), ("slow", Reason.NO_DATA), ("changed", Reason.UNANCHORED)):
        with pytest.raises(Unjudged) as seen:
            Stored.read(tmp_path / name, "objectives")
        assert (seen.value.reason, seen.value.blame) == (reason, Blame.HARNESS)


# -- the noun -------------------------------------------------------------------------------------------------------


class Hand:
    """As much of a run as the noun asks when its load is over."""

    def __init__(self, folder: Path, given: Path) -> None:
        story = Story.read(folder)
        assert story.opened is not None
        self.scenario, self.opened, self.located = asked(), story.opened, SimpleNamespace(folder=given)
        self.events: list[Event] = []
        self.emit = self.events.append


def regressions(folder: Path, given: Path) -> tuple[Any, Hand]:
    """What the noun answers about a run whose stored ones lie beside the scenario as a, b and c."""
    hand, story = Hand(folder, given), Story.read(folder)
    noun = LoadNoun(hand)  # type: ignore[arg-type]
    noun._loaded = story.loads["objectives"]
    noun._samples, noun._requests = samples.read(folder / noun._loaded.samples), 30
    noun._platform = list  # type: ignore[method-assign, assignment]
    noun._client = {"sound": True}
    spec = next(one for one in catalogue() if one.id == "load.regression")
    with running("load.regression[e2e-p80]", spec, hand.emit):
        return noun.regressions(hand.scenario.slos[0]), hand


@pytest.mark.parametrize(("slow", "found"), [(1.0, 0), (1.4, 2)])
def test_the_noun_records_the_comparison_and_says_who_is_to_blame(
    tmp_path: Path, stored: tuple[Path, ...], slow: float, found: int
) -> None:
    Run(tmp_path / "run", slow=slow).write()
    for name, folder in zip("abc", stored, strict=True):
        (tmp_path / name).symlink_to(folder)
    findings, hand = regressions(tmp_path / "run", tmp_path)
    assert (len(findings), findings.blame) == (found, Blame.CANDIDATE if found else None)
    seen, gated = hand.events
    assert isinstance(seen, Seen) and seen.count == 3 and isinstance(gated, Gated)
    assert gated.judgement["outcome"] == (Outcome.FAIL if found else Outcome.PASS)


def test_the_noun_compares_with_nothing_that_is_not_there(tmp_path: Path) -> None:
    Run(tmp_path / "run").write()
    with pytest.raises(Unjudged, match=r"a holds no record\.jsonl"):
        regressions(tmp_path / "run", tmp_path)

"""What `hotfire judge` finds in the folder of a run: the same verdict, or what was changed, left out or made up."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hotfire.errors import BadInput
from hotfire.record.events import Counted, Event, Flowed, Gated, Judged, Loaded
from hotfire.report.judge import Rejudged, judge
from hotfire.report.story import Story
from hotfire.runtimes.guarded import guards
from hotfire.scenario.model import Scenario
from hotfire.words import Mode, Outcome, Verdict
from tests.recorded_run import GO, NO_GO, RUNS, UNSAFE, Run, said, scenario, write_samples


@pytest.mark.parametrize("name", RUNS)
def test_judge_comes_to_the_same_offline(made: dict[str, Path], name: str) -> None:
    again = judge(made[name])
    assert again.verdict == said(made[name])["verdict"] and "anchors: not checked" in again.lines
    assert again.agrees is (name != "torn"), again.differences


def test_judge_repeats_every_gate_from_the_samples(made: dict[str, Path]) -> None:
    gates = [line for line in judge(made["go"]).lines if line.startswith("gate ")]
    assert len(gates) == 3 and all("look 1: PASS" in line for line in gates)


def test_judge_finds_a_gate_whose_figures_were_made_up(tmp_path: Path) -> None:
    class Forger(Run):
        def gated(self, param: str) -> Gated:
            true = super().gated(param)
            good = true.judgement | {"outcome": "PASS", "reason": None, "observed": 0.1, "bad": 0}
            return true.model_copy(update={"judgement": good})

        def slo_judged(self, key: str) -> Judged:
            return Judged(check=key, outcome=Outcome.PASS)

    assert Forger(tmp_path, slow=8.0).write() is GO
    again = judge(tmp_path)
    assert (
        again.verdict is UNSAFE
        and not again.agrees
        and any("outcome was PASS, it is FAIL" in line for line in again.differences)
    )


def test_judge_finds_other_samples_and_a_missing_plan(tmp_path: Path) -> None:
    Run(tmp_path).write()
    write_samples(tmp_path / "load/objectives/samples.jsonl.gz", 30, 0.5, fails=False)
    assert any("samples.jsonl.gz was changed" in line for line in judge(tmp_path).lines) and judge(tmp_path).verdict is not GO
    (tmp_path / "load/objectives/plan.jsonl").unlink()
    assert any("plan.jsonl is not there any more" in line for line in judge(tmp_path).lines)


def test_judge_finds_a_pass_that_nobody_can_repeat(tmp_path: Path) -> None:
    class Silent(Run):
        def check(self, key: str, blocked: bool) -> Iterable[Event]:
            return (event for event in super().check(key, blocked) if not isinstance(event, Gated))

    assert Silent(tmp_path).write() is GO
    assert judge(tmp_path).verdict is not GO and "could be repeated" in judge(tmp_path).differences[0]


def test_judge_finds_a_changed_record_and_a_changed_verdict(tmp_path: Path) -> None:
    Run(tmp_path, slow=8.0).write()
    verdict_file, record = tmp_path / "verdict.json", tmp_path / "record.jsonl"
    verdict_file.write_text(verdict_file.read_text().replace('"NO_GO"', '"GO"'))
    assert judge(tmp_path).differences == ("verdict.json says GO, NO_GO follows",)
    record.write_text(record.read_text().replace('"FAIL"', '"PASS"', 1))
    assert judge(tmp_path).verdict is UNSAFE and judge(tmp_path).differences[0].startswith("record: line")


def test_judge_wants_the_folder_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no record\.jsonl"):
        judge(tmp_path)


def test_samples_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    class Outside(Run):
        def loaded(self, name: str, requests: int, marks: Sequence[tuple[str, float]]) -> Loaded:
            self.event = super().loaded(name, requests, marks)
            return self.event.model_copy(update={"samples": "../" * 9 + "etc/passwd"})

    Outside(tmp_path).write()
    assert any("lies outside the run's folder" in line for line in judge(tmp_path).lines)


def test_goodput_is_judged_again_offline_and_printed_with_its_limits(tmp_path: Path) -> None:
    slos = [{"metric": "goodput", "within": {"ttft": "< 800ms", "e2e": "< 2s"}, "share": "> 80%"}]
    asked = Scenario.model_validate(scenario().model_dump() | {"slos": slos})
    assert Run(tmp_path / "good", scenario=asked).write() is GO
    assert Run(tmp_path / "slow", scenario=asked, slow=8.0).write() is NO_GO
    assert judge(tmp_path / "good").agrees and judge(tmp_path / "slow").agrees
    page = (tmp_path / "good" / "certificate.html").read_text()
    assert "goodput within e2e &lt; 2 s and ttft &lt; 800 ms" in page and "<td>&gt; 80 %</td><td>100 %</td>" in page


def test_how_requests_flowed_is_in_every_report_and_is_judged_again(tmp_path: Path, made: dict[str, Path]) -> None:
    flow = said(made["go"])["flows"][0]["flow"]
    assert 0 < flow["busy"] < 1 and 0 < flow["mean"] < 1 and len(flow["fifths"]) == 5 and not flow["saturated"]
    words = f"utilisation {flow['busy']:.0%} (a request in flight), {flow['mean']:.3g} in flight on average"
    assert f"load objectives, look 1: {words}" in judge(made["go"]).lines
    assert words in (made["go"] / "certificate.html").read_text()

    class Forger(Run):
        def flowed(self) -> Flowed:
            event = super().flowed()
            return event.model_copy(update={"flow": event.flow | {"busy": 0.1, "fifths": [0.0] * 5}})

    Forger(tmp_path).write()
    assert [line.split(" was")[0] for line in judge(tmp_path).differences] == [
        "load objectives, look 1: busy", "load objectives, look 1: fifths",
    ]  # fmt: skip


def test_a_record_is_held_against_what_its_journal_anchored(made: dict[str, Path]) -> None:
    """A record that was written anew from end to end has a whole chain."""
    heads = [entry.hash for entry in Story.read(made["go"]).entries]
    whole, other, none = (judge(made["go"], anchors) for anchors in (heads[3:9:2], [heads[3], "0" * 64], []))
    assert whole.agrees and "anchors: 3 of 3 are in the record" in whole.lines
    assert other.differences == (f"anchors: the record does not hold {'0' * 16}: it is not what the run wrote",)
    assert none.differences == ("anchors: the journal holds none",)


@dataclass
class Live(Run):
    """Users are served meanwhile; of each 20 of their requests `bad` fail, and the check says PASS."""

    bad: int = 0
    burnt: int | None = None
    counted: bool = True
    ours: int = 60
    rounds: int = 30

    def check(self, key: str, blocked: bool) -> Iterable[Event]:
        if key == "rollout.users[llama]" and self.counted:
            asked = self.scenario
            intervals = tuple((float(n), 1, *(20, self.bad) * 3) for n in range(self.rounds))
            parts = tuple(guards(asked.guarded[0], asked))[:3]
            yield Counted(check=key, parts=parts, intervals=intervals, ours=self.ours, burnt=self.burnt)
        yield from super().check(key, blocked)


def with_users(folder: Path, **changes: Any) -> tuple[Verdict, Rejudged]:
    asked = scenario().model_copy(update={"mode": Mode.PROMOTE, "users": "live", "consent": ("load", "kill", "oom")})
    return Live(folder, scenario=asked, **changes).write(), judge(folder)


def test_users_requests_are_counted_on_the_certificate_and_judged_again(tmp_path: Path) -> None:
    verdict, again = with_users(tmp_path)
    assert (verdict, again.verdict, again.differences) == (GO, GO, ())
    assert (
        "none; 600 requests counted by the pods, 60 of them hotfire&#39;s, 0 bad" in (tmp_path / "certificate.html").read_text()
    )
    assert said(tmp_path)["users"][0]["requests"] == 600 and "intervals" not in said(tmp_path)["users"][0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bad": 20}, "burnt was None, it is 4"),
        ({"burnt": 9}, "burnt was 9, it is None"),
        ({"counted": False}, "without counts"),
        ({"ours": 501}, "PASS is recorded; 99 requests of users were counted"),
        ({"bad": 9, "rounds": 15}, "PASS is recorded; users' requests speak against"),
    ],
)
def test_judge_finds_users_who_were_passed_over(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    verdict, again = with_users(tmp_path, **changes)
    assert verdict is GO and any(says in line for line in again.differences) and not again.agrees
    assert again.verdict is (GO if "burnt" in changes else UNSAFE)


@pytest.mark.parametrize("key", ["candidate_digest", "ended", "accelerators", "gates", "because"])
def test_judge_finds_what_was_changed_in_the_certificate_a_promote_rests_on(tmp_path: Path, key: str) -> None:
    Run(tmp_path).write()
    file = tmp_path / "verdict.json"
    changed = json.loads(file.read_text()) | {key: "another"}
    file.write_text(json.dumps(changed))
    assert judge(tmp_path).differences == (f"verdict.json differs from the record in {key}",)


def test_a_closed_run_without_its_verdict_is_no_go_again(tmp_path: Path) -> None:
    Run(tmp_path).write()
    (tmp_path / "verdict.json").unlink()
    assert judge(tmp_path).differences == ("verdict.json is not there: the reports were not whole",)

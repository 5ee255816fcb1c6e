"""Every report tells what the record says: from real records and real samples, sound, failed, doubtful and hostile ones."""

import gzip
import html
import json
import random
import re
import xml.etree.ElementTree as xml
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotfire.check import catalogue, plan
from hotfire.errors import BadInput, HarnessError, Unjudged
from hotfire.gates.decision import Ending, decide, verdict
from hotfire.load import plan as plans
from hotfire.load import samples
from hotfire.record.events import (
    Anchored,
    Armed,
    Changed,
    Closed,
    Concluded,
    Counted,
    Decided,
    Event,
    Faulted,
    Flowed,
    Gated,
    Judged,
    Loaded,
    Marked,
    Opened,
    Planned,
    Proved,
    Restored,
    Seen,
    Served,
    Stage,
    Told,
)
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.report import live, objective, plot, write_all
from hotfire.report.allure import allure_status, scan
from hotfire.report.judge import Rejudged, judge
from hotfire.report.rows import ROWS
from hotfire.runtimes.guarded import guards
from hotfire.scenario.model import Scenario
from hotfire.words import Blame, Decision, Effect, Mode, Outcome, Proof, Reason, State, Verdict

ROOT = Path(__file__).parents[2]
SECRET = "hf_Zq81LkPw93Xy"
HTML = "<script>alert(1)</script><b>x"
POINTS = (
    "target",
    "landed",
    "population",
    "closure",
    "devices",
    "stability",
    "function",
    "traffic",
    "residue",
    "durability",
    "time",
)
POINTS += ("idempotence",)
GO, NO_GO, INCONCLUSIVE, UNSAFE = Verdict


def scenario(faults: int = 2, about: str = "Llama 3.1 8B, build 0415, replaces build 0408 on one GPU.") -> Scenario:
    serves = {"workload": "deployment/llama", "service": "llama", "runtime": "tiny", "model": "llama-3.1-8b"}
    named = ["one-pod-gone", "out-of-memory", *(f"one-pod-gone-again-and-again-number-{n}" for n in range(faults))][:faults]
    return Scenario.model_validate(
        {
            "apiVersion": "hotfire/v1", "kind": "Scenario", "name": "llama-8b", "about": about, "mode": "promote",
            "users": "none",
            "stand": {"namespace": "llm-serving", "accelerators": "simulated"}, "candidate": {"serves": [serves]},
            "scheduling": {"devices": {"nvidia.com/gpu": 1}, "nodes": {"accelerator": "gpu"}, "tolerates": ["a=b:NoSchedule"]},
            "secrets": [{"name": "hf-token", "key": "token", "as": "env HF_TOKEN"}, {"pull": "regcred"}],
            "load": {"arrivals": "spaced 1s", "warm_up": 2, "timeout": "20s"},
            "slos": [{"metric": "e2e", "p80": "< 2s"}, {"metric": "ttft", "p80": "< 800ms"},
                     {"metric": "errors", "ratio": "< 20%"}],
            "faults": [{"name": name, "kill": "one pod", "serving_again_within": "60s"} for name in named],
        }
    )  # fmt: skip


@dataclass
class Run:
    """As the plugin writes it, with what is to go wrong."""

    folder: Path
    scenario: Scenario = field(default_factory=scenario)
    failing: dict[str, Judged] = field(default_factory=dict)
    slow: float = 1.0
    requests: int = 30
    state: State | None = None
    proof: Proof = Proof.PROVEN
    closed: bool = True
    run: str = "llama-8b-20261124-141503-7f3a"

    def write(self) -> Verdict:
        """Write the record, and every report from it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        redactor = Redactor({"hf-token/token": SECRET})
        self.recorder = Recorder(self.folder / "record.jsonl", redactor)
        for event in self.before():
            self.recorder.emit(event)
        self.recorder.emit(Anchored(head=self.recorder.head))
        decision, because = decide(self.recorder.entries)
        self.state = self.state or (State.CONFIRMED if decision is Decision.CONFIRM else State.RESTORED)
        for event in self.settled(decision, because):
            self.recorder.emit(event)
        found, because = verdict(self.recorder.entries, Ending.of(self.recorder.entries, closing=True))
        self.recorder.emit(Concluded(verdict=found, because=because))
        self.recorder.emit(Closed()) if self.closed else self.recorder.abandon()
        write_all(self.folder, redactor)
        return found

    def before(self) -> Iterable[Event]:
        yield Opened(
            run=self.run, scenario=self.scenario.name, about=self.scenario.about, mode=Mode.PROMOTE,
            scenario_digest="sha256:" + "5e" * 32, candidate_digest="sha256:" + "c0ffee42" * 8,
            baseline="deployment/llama sha256:" + "0408" * 16, accelerators="simulated",
            stand="Kubernetes v1.36.2, context dev, namespace llm-serving", way_back="in-process", users="none",
            version="0.1.0",
        )  # fmt: skip
        self.planned = plan(catalogue(), self.scenario)
        yield Planned(checks=self.planned)
        suites = dict.fromkeys(check.suite for check in self.planned)
        blocked = False
        for suite in suites:
            if suite != "test_90_settle":
                yield Stage(suite=suite, phase="began")
                for check in self.planned:
                    if check.suite == suite and check.asked:
                        yield from self.check(check.key, blocked)
                        failed = self.failing.get(check.key)
                        blocked = blocked or (failed is not None and suite < "test_5")
                if suite == "test_80_faults" and not blocked:
                    yield self.loaded("fault-traffic", 60, [("one-pod-gone: applied", 12.0), ("one-pod-gone: serving", 16.1)])
                yield Stage(suite=suite, phase="ended")

    def check(self, key: str, blocked: bool) -> Iterable[Event]:
        check = next(one for one in self.planned if one.key == key)
        if blocked:
            yield Judged(check=key, outcome=Outcome.NOT_RUN, reason=Reason.BLOCKED, message="blocked: an earlier stage failed")
            return
        noun = re.match(r"\d+ (\S+)(?: per (\S+))?", check.evidence)
        for one in noun.groups() if noun else ():
            if one:
                yield Seen(check=key, noun=one, count=2)
        if check.id == "load.client":
            yield self.loaded("objectives", self.requests, [("look 1", float(self.requests))])
            yield self.flowed()
        if check.id == "faults.effect":
            yield from self.fault(check.param)
        if check.id == "load.slo":
            yield self.gated(check.param)
            yield self.slo_judged(check.key)
        else:
            yield self.failing.get(key) or Judged(check=key, outcome=Outcome.PASS, seconds=0.4)

    def loaded(self, name: str, requests: int, marks: Sequence[tuple[str, float]]) -> Loaded:
        where = self.folder / "load" / name
        where.mkdir(parents=True)
        drawn = plans.draw(where / "plan.jsonl", "spaced 1s", [plans.Prompt("a", "Hello")], [requests], warm_up=2)
        digest = write_samples(where / "samples.jsonl.gz", requests, self.slow, fails=name != "objectives")
        for mark, t in marks:
            self.recorder.emit(Marked(name=mark, load_time=t))
        self.event = Loaded(
            name=name, plan=f"load/{name}/plan.jsonl", plan_digest=drawn.digest, samples=f"load/{name}/samples.jsonl.gz",
            samples_digest=digest, look=1, arrivals="spaced 1s", to="deployment/llama", window=(0.0, requests + 10.0),
            client={"sound": True, "cause": "", "figures": {"dispatch_p99_ms": 0.42}},
        )  # fmt: skip
        return self.event

    def flowed(self) -> Flowed:
        until = self.event.window[1]
        flow = objective.flowed(samples.read(self.folder / self.event.samples), self.requests, until)
        return Flowed(load="objectives", look=1, requests=self.requests, until=until, flow=flow)

    def gated(self, param: str) -> Gated:
        slo = next(one for one in self.scenario.slos if one.id == param)
        assert self.scenario.load is not None
        until = self.event.window[1]
        gate = objective.describe(slo, self.scenario.load, requests=self.requests, until=until, required_gates=3, windows=3)
        found = samples.read(self.folder / self.event.samples)
        self.judgement = objective.judge(found, gate, look=1, last_look=True)
        record = self.judgement.as_record()
        return Gated(check=f"load.slo[{param}]", load="objectives", look=1, last_look=True, gate=gate, judgement=record)

    def slo_judged(self, key: str) -> Judged:
        found = self.judgement
        whose = Blame.CANDIDATE if found.outcome is Outcome.FAIL else None
        assert found.outcome is not None
        return Judged(check=key, outcome=found.outcome, reason=found.reason, blame=whose, message=found.detail)

    def fault(self, name: str) -> Iterable[Event]:
        yield Faulted(fault=name, step="target", data={"pod": "llama-7c9f-x2x4k", "container": "engine", "node": "gpu-a"})
        yield Faulted(fault=name, step="control", effect=Effect.NO_EFFECT, data={})
        witness = ["uid 5b0e is gone", "llama-7c9f-9qk2p was created by the same controller"]
        yield Faulted(fault=name, step="effect", effect=Effect.CONFIRMED, data={"evidence": witness})
        yield Faulted(fault=name, step="recovered", data={"seconds": 4.1, "within": 60.0})

    def settled(self, decision: Decision, because: tuple[str, ...]) -> Iterable[Event]:
        assert self.state is not None
        yield Decided(decision=decision, because=because)
        yield Changed(state=self.state, by="hotfire")
        for number, point in enumerate(POINTS):
            applies = point != "devices"
            result = self.proof if number == 3 else Proof.PROVEN if applies else Proof.NOT_APPLICABLE
            said = (
                "2 of 2 objects equal the snapshot, zero differences"
                if applies
                else "simulated devices have no memory to compare"
            )
            yield Proved(point=point, result=result, evidence=said)
        if self.state is State.RESTORED:
            meanwhile = Served(asked=24, failed=3, longest_s=1.62, ready={"llama": 1})
            yield Restored(restored_s=6.2, settled_s=11.9, served=meanwhile)
        fine = Outcome.PASS if self.proof is Proof.PROVEN else Outcome.FAIL
        for key, noun in (("settle.restored", "proof-point"), ("settle.within", "time")):
            yield Seen(check=key, noun=noun, count=12)
            yield Judged(check=key, outcome=fine, blame=Blame.HARNESS if fine is Outcome.FAIL else None, seconds=0.1)
        yield Anchored(head=self.recorder.head)


def write_samples(path: Path, requests: int, slow: float, fails: bool, growth: float = 0.0) -> str:
    """One request a second, two of warm-up, each slower by `growth`; with `fails`, those due from 12 to 16 s fail."""
    rng, out = random.Random(7), samples.Writer(path)
    for index in range(requests + 2):
        due, slow = index * 1_000_000, slow + growth
        first, took = round(rng.lognormvariate(-1.6, 0.3) * slow * 1e6), round(rng.lognormvariate(-0.9, 0.3) * slow * 1e6)
        failed = fails and 12 <= index <= 16
        end = due + first + took
        row: dict[str, Any] = dict.fromkeys(samples.COLUMNS, "") | {
            "i": index - 2, "warm": int(index < 2), "due": due, "took": due, "sent": due + 90, "conn": None, "hdr": due + first,
            "fb": None if failed else due + first, "ft": None if failed else due + first, "lt": None if failed else end,
            "end": end,
            "n": 0 if failed else 8, "usage": 8, "status": 0 if failed else 200, "err": "connect_refused" if failed else "",
            "reused": 0, "coal": 0, "gmax": 40_000, "g99": 30_000,
        }  # fmt: skip
        out.add([row[name] for name in samples.COLUMNS])
    return out.close()


def failed(key: str, outcome: Outcome = Outcome.FAIL, blame: Blame = Blame.CANDIDATE, **more: Any) -> dict[str, Judged]:
    reason = Reason.BREACH if outcome is Outcome.FAIL else Reason.TIMEOUT
    return {key: Judged(check=key, outcome=outcome, reason=reason, blame=blame, **more)}


PENDING = failed(
    "scheduling.within",
    message="1 of 2 pods on a node after 31s (limit 2m)",
    details=("llama-7c9-x2x4k  serving since 12s on gpu-a3", "llama-7c9-9qk2p  TERMINAL: Pending 31s: 0/6 nodes"),
)
RUNS: dict[str, tuple[Verdict, dict[str, Any]]] = {
    "go": (GO, {}),
    "no-go-slow": (NO_GO, {"slow": 8.0}),
    "no-go-pending": (NO_GO, {"failing": PENDING}),
    "inconclusive": (INCONCLUSIVE, {"failing": failed("preflight.capacity", blame=Blame.PLATFORM, message="node gpu-a lost")}),
    "too-few": (INCONCLUSIVE, {"requests": 5}),
    "unsafe": (UNSAFE, {"failing": PENDING, "proof": Proof.UNPROVEN}),
    "torn": (NO_GO, {"slow": 8.0, "closed": False}),
    "many-faults": (GO, {"scenario": scenario(24), "requests": 4000}),
    "hostile": (
        NO_GO,
        {
            "scenario": scenario(3, about=f"{HTML} {SECRET} " + "long " * 200),
            "run": "r" * 200,
            "failing": failed("behaviour.identity[llama]", message=HTML + "x" * 900, details=(HTML, SECRET) * 30),
        },
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    for name, (wanted, changes) in RUNS.items():
        assert Run(folders[name], **changes).write() is wanted, name
    return folders


def said(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    return found


@pytest.mark.parametrize("name", RUNS)
def test_verdict_and_exit_code_are_the_records(made: dict[str, Path], name: str) -> None:
    found, wanted = said(made[name]), INCONCLUSIVE if name == "torn" else RUNS[name][0]
    assert (found["verdict"], found["exit_code"]) == (wanted, wanted.exit_code) and found["because"]


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


@pytest.mark.parametrize("name", RUNS)
def test_the_certificate_holds_all_rows_and_the_plain_facts(made: dict[str, Path], name: str) -> None:
    page = (made[name] / "certificate.html").read_text()
    assert all(row in page for row in ROWS) and len(ROWS) == 19
    for fact in (
        '<dt>accelerators</dt><dd class="strong" title="simulated">simulated</dd>',
        "in-process, not armed",
        "certified by",
        '<dt>users</dt><dd class="strong" title="none">none</dd>',
    ):
        assert fact in page
    assert f'<div class="word">{said(made[name])["verdict"].replace("_", " ")}</div>' in page


def test_every_report_says_who_was_served_while_the_way_back_was_gone(made: dict[str, Path]) -> None:
    line = "3 of 24 questions failed, at most 1.6 s without an answer; fewest ready endpoints: llama 1"
    page = (made["no-go-slow"] / "certificate.html").read_text()
    assert f">{line}</dd>" in page and said(made["no-go-slow"])["restored"]["served"]["ready"] == {"llama": 1}
    event = Restored(restored_s=6.2, settled_s=11.9, served=Served(asked=24, failed=3, longest_s=1.62, ready={"llama": 1}))
    assert live.lines(event) == ["restored after 6.2 s, settled after 11.9 s", f"meanwhile {line}"]


def test_the_certificate_says_armed_only_of_a_watchdog_that_was_proven_alive(tmp_path: Path) -> None:
    class Watched(Run):
        def before(self) -> Iterable[Event]:
            opened, *rest = super().before()
            yield opened.model_copy(update={"way_back": "watchdog w-1, image sha256:1"})
            yield Armed(pod="w-1-x")
            yield from rest

    Watched(tmp_path).write()
    assert ">armed: watchdog w-1, image sha256:1</dd>" in (tmp_path / "certificate.html").read_text()
    assert said(tmp_path)["way_back"] == "armed: watchdog w-1, image sha256:1"


def test_a_way_back_that_is_the_owners_is_called_so_and_not_restored(tmp_path: Path) -> None:
    class Theirs(Run):
        def before(self) -> Iterable[Event]:
            opened, *rest = super().before()
            yield opened.model_copy(
                update={"way_back": "the owner's (Application argocd/llama)", "owner": "Application argocd/llama"}
            )
            yield from rest

    assert Theirs(tmp_path, slow=8.0).write() is Verdict.INCONCLUSIVE
    page = html.unescape((tmp_path / "certificate.html").read_text())
    assert "hotfire restored nothing: the way back is the owner's, Application argocd/llama must roll back." in page
    assert ">the owner's (Application argocd/llama)</dd>" in page and "is back" not in page


@pytest.mark.parametrize("name", RUNS)
def test_the_certificate_runs_and_loads_nothing(made: dict[str, Path], name: str) -> None:
    page = (made[name] / "certificate.html").read_text()
    assert not re.search(r"<script|<img|<link|<iframe|src=|url\(|@import|onload", page) and "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_what_does_not_fit_is_counted(made: dict[str, Path]) -> None:
    page = (made["many-faults"] / "certificate.html").read_text()
    assert "19 more in verdict.json, none worse than these" in page and len(said(made["many-faults"])["faults"]) == 24


def test_many_requests_are_thinned_and_the_slowest_stays(made: dict[str, Path]) -> None:
    plot = (made["many-faults"] / "certificate.html").read_text().split("<svg")[1]
    assert 200 < plot.count("<circle") <= 600


@pytest.mark.parametrize(("requests", "fails"), [(30, False), (30, True), (3000, False)])
def test_the_distribution_is_that_of_the_samples_and_never_counts_a_failure(tmp_path: Path, requests: int, fails: bool) -> None:
    write_samples(tmp_path / "s.gz", requests, 1.0, fails)
    found = samples.read(tmp_path / "s.gz").counted()
    drawn = plot.ecdf_plot(found, "e2e", 2.0, 0.8, height=132)
    heights = [float(y) for y in re.findall(r"V([0-9.]+)", drawn.split('class="ecdf"')[1])]
    answered = 1 - (found.is_error().sum() / requests)
    assert heights == sorted(heights, reverse=True) and len(heights) == min(requests - int(found.is_error().sum()), 200)
    assert heights[-1] == pytest.approx(132 - 18 - 100 * answered, abs=0.06)
    middle = float(re.findall(r"H([0-9.]+)V", drawn.split('class="ecdf"')[1])[len(heights) // 2])
    half = sorted(found.latency("e2e"))[round(len(heights) // 2 * (requests * answered - 1) / max(len(heights) - 1, 1))]
    limit = float(re.findall(r'<line class="limit" x1="([0-9.]+)"', drawn)[0])
    assert (middle - 46) / (limit - 46) == pytest.approx(half / 2.0, rel=0.05)


def test_a_plot_without_its_samples_says_so(tmp_path: Path) -> None:
    Run(tmp_path).write()
    (tmp_path / "load/objectives/samples.jsonl.gz").write_bytes(b"")
    write_all(tmp_path)
    assert "no picture: samples.jsonl.gz was changed" in (tmp_path / "certificate.html").read_text()


def test_no_file_of_any_run_holds_the_secret(made: dict[str, Path]) -> None:
    files = [path for folder in made.values() for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 40 and not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("name", RUNS)
def test_junit_counts_what_the_record_counts(made: dict[str, Path], name: str) -> None:
    root, checks = xml.parse(made[name] / "junit.xml").getroot(), said(made[name])["checks"]
    for tag, outcome in (("failure", "FAIL"), ("error", "INVALID"), ("skipped", "NOT_RUN")):
        named = {case.get("name") for case in root.iter("testcase") if case.find(tag) is not None}
        assert named == {check["check"] for check in checks if check["outcome"] == outcome}
    assert root.get("tests") == str(len(checks))


def allure_folder(folder: Path, text: str = SECRET) -> Path:
    """What allure-pytest leaves: two results that say something else than the record, an attachment, a container."""
    results = folder / "allure-results"
    results.mkdir(exist_ok=True)
    for number, name in enumerate(("test_the_objective_holds[e2e-p80]", "test_of_no_plan")):
        data = {"uuid": str(number), "name": name, "fullName": f"suites#{name}", "status": "passed", "start": 1, "stop": 2}
        data["parameters"] = [{"name": "slo", "value": repr(text)}]
        (results / f"{number}-result.json").write_text(json.dumps(data))
    (results / "9-container.json").write_text(json.dumps({"befores": [{"name": text}]}))
    (results / "9-attachment.txt").write_text(f"log {text}\n")
    return results


def test_allure_says_what_the_record_says_and_nothing_secret(tmp_path: Path) -> None:
    allure_folder(tmp_path)
    Run(tmp_path, slow=8.0).write()
    results = [json.loads(path.read_text()) for path in (tmp_path / "allure-results").glob("*-result.json")]
    wanted = {check["check"]: allure_status(Outcome(check["outcome"])) for check in said(tmp_path)["checks"]}
    wanted["test_of_no_plan"] = "broken"
    assert {one["name"]: one["status"] for one in results} == wanted and len(results) == len(wanted)
    assert wanted["load.slo[e2e-p80]"] == "failed" and wanted["settle.restored"] == "passed"
    assert "hf-token" in (tmp_path / "allure-results/9-attachment.txt").read_text()


def test_allure_s_history_outlives_the_run_and_writing_twice_changes_nothing(tmp_path: Path) -> None:
    ids = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        allure_folder(tmp_path / run)
        Run(tmp_path / run, run=run).write()
        before = {path.name: path.read_bytes() for path in (tmp_path / run / "allure-results").iterdir()}
        write_all(tmp_path / run, Redactor({"hf-token/token": SECRET}))
        assert before == {path.name: path.read_bytes() for path in (tmp_path / run / "allure-results").iterdir()}
        results = [json.loads(path.read_text()) for path in (tmp_path / run / "allure-results").glob("*-result.json")]
        ids.append({one["name"]: one["historyId"] for one in results if "historyId" in one})
    assert ids[0] == ids[1] and len(set(ids[0].values())) == len(ids[0])


def test_a_secret_that_is_left_anywhere_fails_loudly_without_being_told(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "carrier.log").write_text(f"Authorization: Bearer {SECRET}")
    with pytest.raises(HarnessError, match=r"carrier\.log \(hf-token/token\)") as caught:
        scan(tmp_path, Redactor({"hf-token/token": SECRET}))
    assert SECRET not in str(caught.value)


def test_samples_of_a_carrier_that_was_stopped_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    whole = gzip.compress(f"one row\n{SECRET}\nthe last row\n".encode())
    (tmp_path / "samples.jsonl.gz").write_bytes(whole[:-8])
    scan(tmp_path, Redactor({"other": "another value"}))
    with pytest.raises(HarnessError, match=r"samples\.jsonl\.gz"):
        scan(tmp_path, Redactor({"hf-token/token": SECRET}))


def test_every_outcome_has_an_allure_status_of_its_own() -> None:
    assert len({allure_status(one) for one in Outcome}) == 4


def test_a_failure_reads_as_an_engineer_would_ask() -> None:
    assert live.lines(PENDING["scheduling.within"]) == [
        "FAIL scheduling.within: 1 of 2 pods on a node after 31s (limit 2m)",
        "  llama-7c9-x2x4k serving since 12s on gpu-a3",
        "  llama-7c9-9qk2p TERMINAL: Pending 31s: 0/6 nodes",
        "  blame: candidate",
    ]


def test_every_event_is_told_in_lines_a_terminal_only_prints(made: dict[str, Path]) -> None:
    assert live.lines(Told(line="a\x1b[2Jb\nc")) == ["a [2Jb c"]
    for line in (made["hostile"] / "record.jsonl").read_text().splitlines():
        event = json.loads(line)["event"]
        assert all(
            text.isprintable() for text in live.lines(Judged.model_validate(event) if event["type"] == "judged" else Closed())
        )


def test_a_row_of_the_checklist_is_never_better_than_its_worst_check(made: dict[str, Path]) -> None:
    rows = {row["row"]: row for row in said(made["unsafe"])["rows"]}
    assert rows["GPU scheduling and node affinity"]["outcome"] == "FAIL" and rows["rollback procedure"]["outcome"] == "FAIL"
    assert rows["TLS termination"]["outcome"] == "NOT_RUN" and rows["TLS termination"]["not_asked"] == {
        "edge.tls": "not in this version"
    }
    assert {row["row"]: row["in_part"] for row in said(made["go"])["rows"]}["model readiness checks"] is True


def test_the_certificate_says_what_dependent_requests_are_worth(tmp_path: Path) -> None:
    class Tied(Run):
        def gated(self, param: str) -> Gated:
            event = super().gated(param)
            return event.model_copy(update={"judgement": {**event.judgement, "tau": 3.7, "effective": 8.1}})

    Tied(tmp_path / "tied").write()
    Run(tmp_path / "free").write()
    tied, free = ((tmp_path / name / "certificate.html").read_text() for name in ("tied", "free"))
    assert "objectives to deployment/llama: spaced 1s" in free
    assert "autocorrelation time 3.7 (in requests): 30 are worth 8 independent ones" in tied
    assert "autocorrelation time 1 (in requests): 30 are worth 30 independent ones" in free


def test_goodput_is_judged_again_offline_and_printed_with_its_limits(tmp_path: Path) -> None:
    slos = [{"metric": "goodput", "within": {"ttft": "< 800ms", "e2e": "< 2s"}, "share": "> 80%"}]
    asked = Scenario.model_validate(scenario().model_dump() | {"slos": slos})
    assert Run(tmp_path / "good", scenario=asked).write() is GO
    assert Run(tmp_path / "slow", scenario=asked, slow=8.0).write() is NO_GO
    assert judge(tmp_path / "good").agrees and judge(tmp_path / "slow").agrees
    page = (tmp_path / "good" / "certificate.html").read_text()
    assert "goodput within e2e &lt; 2 s and ttft &lt; 800 ms" in page and "<td>&gt; 80 %</td><td>100 %</td>" in page


@pytest.mark.parametrize(("slow", "growth", "arrivals", "grew"), [
    (1.0, 1.0, "poisson", True), (8.0, 0.0, "poisson", False), (1.0, 1.0, "spaced", False), (1.0, 0.0, "poisson", False),
])  # fmt: skip
def test_a_load_above_capacity_is_named_as_that(tmp_path: Path, slow: float, growth: float, arrivals: str, grew: bool) -> None:
    write_samples(tmp_path / "s.gz", 200, slow, False, growth)
    gate = {"metric": "e2e", "statistic": "p80", "limit": 2.0, "confidence": 0.95, "arrivals": arrivals, "timeout_s": 900,
            "until": 900, "requests": 200, "required_gates": 1, "windows": 3}  # fmt: skip
    found = objective.judge(samples.read(tmp_path / "s.gz"), gate, look=1, last_look=True)
    assert (objective.SATURATED in found.detail) is grew, found
    if grew:
        assert found.outcome is not Outcome.PASS


@pytest.mark.parametrize(("growth", "metric", "reason"), [
    (0.5, "e2e", Reason.SATURATED), (0.0, "e2e", Reason.INSUFFICIENT), (0.5, "errors", Reason.INSUFFICIENT),
])  # fmt: skip
def test_a_latency_above_capacity_fails_although_no_bound_would_ever_decide_it(
    tmp_path: Path, growth: float, metric: str, reason: Reason
) -> None:
    write_samples(tmp_path / "s.gz", 400, 1.0, False, growth)
    gate = {"metric": metric, "statistic": "p80", "limit": 0.2 if metric == "errors" else 800.0, "confidence": 0.95,
            "arrivals": "poisson", "timeout_s": 900, "until": 900, "requests": 400, "required_gates": 1,
            "windows": 3}  # fmt: skip
    found = objective.judge(samples.read(tmp_path / "s.gz"), gate, look=1, last_look=True)
    assert (found.reason, found.outcome is Outcome.FAIL) == (reason, reason is Reason.SATURATED)


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


def test_a_load_above_capacity_is_flagged_in_every_report(tmp_path: Path) -> None:
    class Growing(Run):
        def flowed(self) -> Flowed:
            event = super().flowed()
            return event.model_copy(update={"flow": event.flow | {"saturated": True, "confirmed": True}})

    Growing(tmp_path).write()
    words = f"SATURATED: {objective.SATURATED}"
    event = Flowed(load="objectives", look=1, requests=9, until=9.0, flow=said(tmp_path)["flows"][0]["flow"])
    assert words in live.lines(event)[0] and words in (tmp_path / "certificate.html").read_text()


@dataclass
class Live(Run):
    """Users are served meanwhile; of each 20 of their requests `bad` fail, and the check says PASS."""

    bad: int = 0
    burnt: int | None = None
    counted: bool = True

    def check(self, key: str, blocked: bool) -> Iterable[Event]:
        if key == "rollout.users[llama]" and self.counted:
            asked = self.scenario
            intervals = tuple((float(n), 1, *(20, self.bad) * 3) for n in range(30))
            parts = tuple(guards(asked.guarded[0], asked))[:3]
            yield Counted(check=key, parts=parts, intervals=intervals, ours=60, burnt=self.burnt)
        yield from super().check(key, blocked)


def with_users(folder: Path, **changes: Any) -> tuple[Verdict, Rejudged]:
    asked = scenario().model_copy(update={"mode": Mode.PROMOTE, "users": "live", "consent": ("load", "kill", "oom")})
    return Live(folder, scenario=asked, **changes).write(), judge(folder)


def test_users_requests_are_counted_on_the_certificate_and_judged_again(tmp_path: Path) -> None:
    verdict, again = with_users(tmp_path)
    assert (verdict, again.verdict, again.differences) == (GO, GO, ())
    assert "none; 600 requests counted by the pods, 60 of them hotfire&#39;s" in (tmp_path / "certificate.html").read_text()
    assert said(tmp_path)["users"][0]["requests"] == 600 and "intervals" not in said(tmp_path)["users"][0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bad": 20}, "burnt was None, it is 4"),
        ({"burnt": 9}, "burnt was 9, it is None"),
        ({"counted": False}, "without counts"),
    ],
)
def test_judge_finds_users_who_were_passed_over(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    verdict, again = with_users(tmp_path, **changes)
    assert verdict is GO and any(says in line for line in again.differences) and not again.agrees
    assert again.verdict is (GO if "burnt" in changes else UNSAFE)


def test_an_objective_without_requests_is_unjudged(tmp_path: Path) -> None:
    write_samples(tmp_path / "s.gz", 0, 1.0, fails=False)
    gate = {
        "metric": "e2e",
        "statistic": "p80",
        "limit": 2.0,
        "confidence": 0.95,
        "arrivals": "spaced",
        "timeout_s": 9,
        "until": 9,
        "requests": 5,
        "required_gates": 1,
        "windows": 1,
    }
    with pytest.raises(Unjudged, match="no request"):
        objective.judge(samples.read(tmp_path / "s.gz"), gate, look=1, last_look=True)

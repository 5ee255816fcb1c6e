"""A run as the plugin writes it, without a cluster: a real record, real samples, every report, and what is to go wrong."""

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotfire.check import catalogue, plan
from hotfire.gates.decision import Ending, decide, verdict
from hotfire.load import plan as plans
from hotfire.load import samples
from hotfire.record.events import (
    Anchored,
    Changed,
    Closed,
    Concluded,
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
)
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.report import objective, write_all
from hotfire.scenario.model import Scenario
from hotfire.words import Blame, Decision, Effect, Mode, Outcome, Proof, Reason, State, Verdict

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
            since="2026-11-24T08:00:00+00:00", version="0.1.0",
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
            warm_up=2, client={"sound": True, "cause": "", "figures": {"dispatch_p99_ms": 0.42}},
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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in RUNS}
    for name, (wanted, changes) in RUNS.items():
        assert Run(folders[name], **changes).write() is wanted, name
    return folders


def said(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    return found

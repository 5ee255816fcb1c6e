"""load: the declared traffic, look by look, and what the objectives come to under it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hotfire.check import Findings, saw
from hotfire.errors import Unjudged
from hotfire.gates.blame import Facts, attribute
from hotfire.gates.guard import checkpoint
from hotfire.gates.statistics import Judgement, look_sizes
from hotfire.kube.wait import shielded
from hotfire.load.plan import Lengths, Plan, Prompt, draw, read_prompts
from hotfire.load.run import Ended, LoadRun, Progress
from hotfire.load.samples import Samples
from hotfire.load.target import Target
from hotfire.plugin.nouns.pods import CandidatePods
from hotfire.plugin.nouns.served import ServedBy
from hotfire.plugin.run import Run
from hotfire.record.events import Flowed, Gated, Loaded, Marked, Told
from hotfire.report import objective
from hotfire.report.stored import Key, Stored, comparable
from hotfire.rollout.load_job import started
from hotfire.rollout.reach import pod_places
from hotfire.scenario.model import Load, Slo
from hotfire.scenario.serves import Serves
from hotfire.scenario.size import first_look, slots, warm_up
from hotfire.words import Blame, Gate, Outcome, Reason

NAME, SUITE = "objectives", "test_70_load"
TELL_EVERY = 5  # seconds between two live lines
TIGHTEST = 0.05  # seconds; the client's own lateness is bounded by the tightest limit, but never by less


def target_of(run: Run, serves: Serves, asked: Load, *, max_age_s: float, scale_s: float | None) -> Target:
    """One API of the candidate's, as the load client is told of it. scale_s: the tightest time that is judged, that of the
    objectives when None."""
    limits = [limit.value for slo in run.scenario.slos for limit in slo.latencies.values()]
    api = serves.runtime if serves.runtime in ("ollama", "tgi") and serves.api == "chat" else serves.api
    url = run.url_in_cluster(serves) if asked.from_ == "cluster" else run.url(serves)
    pods = pod_places(run.cluster, run.located, run.namespace, serves) if asked.per_pod else ()
    return Target(
        url, api, serves.model, timeout_s=asked.timeout, slots=slots(asked), max_age_s=max_age_s,
        scale_s=scale_s or max(TIGHTEST, min(limits, default=1.0)), served_by=run.scenario.reach.served_by.lower(), ca=run.ca,
        pods=pods,
    )  # fmt: skip


def plan_of(
    run: Run, asked: Load, folder: Path, looks: tuple[int, ...], *, seed: int, warm_up: int, arrivals: str | None = None
) -> Plan:
    """Drawn into the load's folder. Without prompts it asks one fixed question. arrivals: instead of those asked."""
    folder.mkdir(parents=True)
    beside = run.located.folder
    prompts = read_prompts(beside / asked.prompts) if asked.prompts else [Prompt("p1", "Say hello.")]
    shared = asked.shared_prefix
    lengths = Lengths(
        asked.prompt_words.text if asked.prompt_words else "", asked.answer_tokens.text if asked.answer_tokens else "",
        shared.words if shared else 0, shared.groups if shared else 1,
    )  # fmt: skip
    return draw(
        folder / "plan.jsonl", arrivals or asked.arrivals.text, prompts, looks, seed=seed, warm_up=warm_up,
        max_tokens=asked.max_tokens, unique=asked.unique, lengths=lengths, beside=beside,
    )  # fmt: skip


@contextmanager
def carrying(
    run: Run,
    asked: Load,
    serves: Serves,
    plan: Plan,
    *,
    max_age_s: float,
    scale_s: float | None = None,
    on_tick: Callable[[Progress], None] | None = None,
) -> Iterator[LoadRun]:
    """The load under way, from where it is asked for; nothing of it runs after the block."""
    target, folder = target_of(run, serves, asked, max_age_s=max_age_s, scale_s=scale_s), plan.path.parent
    auth, image, hidden = run.scenario.reach.auth, run.scenario.stand.load_image, run.redactor.forms
    with ExitStack() as stack:
        if asked.from_ == "here" or image is None:
            token = run.token()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            under_way = LoadRun.start(
                plan, target, folder, headers=headers, hidden=hidden, processes=asked.processes, calibrate=True, on_tick=on_tick
            )
        else:
            secret, workers = auth.secret if auth else "", asked.workers
            carriers = stack.enter_context(
                started(
                    run.rollout, image, plan, target, folder, name=folder.name, cpu=asked.cpu, workers=workers, secret=secret
                )
            )
            under_way = LoadRun.follow(plan, target, folder, carriers, hidden=hidden, calibrate=True, on_tick=on_tick)
        load = stack.enter_context(under_way)
        run.users.loads.append((serves.workload, load))
        yield load


def loaded(
    run: Run, serves: Serves, load: LoadRun, ended: Ended, name: str, look: int, served: ServedBy, requests: int | None = None
) -> Loaded:
    """The event of a load that is over. requests: as many as are judged, None for all."""
    folder = load.out.relative_to(run.folder)
    return Loaded(
        name=name, plan=f"{folder}/plan.jsonl", plan_digest=load.plan.digest, samples=f"{folder}/{ended.samples.name}",
        samples_digest=ended.digest, look=look, arrivals=load.plan.header.arrivals,
        to=serves.workload, client=dict(ended.client),
        window=(0.0, ended.seconds), warm_up=load.plan.header.warm_up, served_by=served.told(load.samples(), requests),
    )  # fmt: skip


class LoadNoun:
    """The noun of suite 70. The load is carried at the first question; every further one is about the same samples."""

    def __init__(self, run: Run) -> None:
        self.run, self.scenario = run, run.scenario
        self.judgements: dict[str, Judgement | Unjudged] = {}
        self._samples: Samples | None = None
        self._refused: Unjudged | None = None  # why it was not carried to its end: not tried again
        self._client: dict[str, Any] = {}
        self._loaded: Loaded | None = None
        self._requests, self._began = 0, 0.0
        self._disturbed: list[str] | None = None  # by the platform, where the way back began before it was asked
        self._watched = self._burnt = 0  # requests at which the guard was asked last; at which it ended the load

    # -- the questions --------------------------------------------------------------------------------------------

    def client_faults(self) -> Findings:
        """Empty; raises Unjudged (CLIENT), with cause and remedy, when the client was the bottleneck."""
        samples = self._carried()
        saw("request", len(samples.counted(self._requests)), self._client, "sound")
        if not self._client.get("sound"):
            remedy = str(self._client.get("remedy", ""))
            raise Unjudged(str(self._client.get("cause")), reason=Reason.CLIENT, details=[remedy] if remedy else [])
        return Findings()

    def unaccounted(self) -> Findings:
        """Planned requests up to the last look without a sample."""
        samples = self._carried()
        saw("request", len(samples.counted(self._requests)), None, self._requests)
        missing = samples.missing(self._requests)
        return Findings([f"request {index} has no sample" for index in missing], f"{len(missing)} requests are unaccounted for")

    def breaches(self, slo: Slo) -> Findings:
        """Why the objective does not hold, by its bound; raises Unjudged when the samples cannot decide it."""
        samples = self._carried()
        saw("request", len(samples.counted(self._requests)), None, f"{slo.metric} {slo.statistic} {slo.limit.text}")
        found = self.judgements[slo.id]
        if isinstance(found, Unjudged):
            raise found
        if found.outcome is Outcome.PASS:
            return Findings()
        if found.outcome is not Outcome.FAIL:
            raise Unjudged(found.detail, reason=found.reason or Reason.UNDECIDED)
        blame, rule = self._blame(found.detail)
        reason = found.reason or Reason.BREACH
        return Findings([found.detail, rule], found.detail, blame, found.observed, slo.limit.text, reason)

    def regressions(self, slo: Slo) -> Findings:
        """Why the candidate is slower than what was certified; raises Unjudged when the stored runs cannot tell, or are of
        another load or stand."""
        samples, run, asked, wanted = self._carried(), self.run, self.scenario.load, self.scenario.compare
        loaded = self._loaded
        if asked is None or wanted is None or loaded is None:
            raise Unjudged("nothing is to be compared", reason=Reason.NO_DATA)
        stored = [Stored.read(run.located.folder / name, NAME) for name in wanted.runs]
        comparable(stored, Key.of(run.opened, loaded))
        saw("certified-run", len(stored), [one.run for one in stored], f"{wanted.margin:.0%}")
        described = self._gate(slo, asked, self._requests, loaded.window[1])
        gate = json.loads(json.dumps(objective.describe_regression(slo, stored, wanted.margin, described)))
        found = objective.judge(samples, gate, look=loaded.look, last_look=True)
        run.emit(
            Gated(
                check=f"load.regression[{slo.id}]", load=NAME, look=loaded.look, last_look=True, gate=gate,
                judgement=found.as_record(),
            )
        )  # fmt: skip
        if found.outcome is Outcome.INVALID:
            raise Unjudged(found.detail, reason=found.reason or Reason.UNDECIDED)
        if found.outcome is Outcome.PASS:
            return Findings()
        blame, rule = self._blame(found.detail)
        return Findings([found.detail, rule], found.detail, blame, found.observed, f"{wanted.margin:.0%}")

    def silences(self, limit: float) -> Findings:
        """The longest time with requests in flight and no byte from the target, from the first request that counts, where it
        is over the limit in seconds; whose it is."""
        samples = self._carried()
        counted = samples.counted(self._requests)
        seconds, at = samples.longest_silence(float(counted.due.min()) if len(counted) else 0.0)
        saw("request", len(counted), {"seconds": seconds, "at": at}, limit)
        if seconds <= limit:
            return Findings()
        said = f"silent for {seconds:.1f} s from {at:.1f} s on, with requests in flight; {limit:g} s is the limit"
        blame, rule = self._blame(said)
        return Findings([said, rule], said, blame, seconds, limit, Reason.STALLED)

    # -- carrying it ----------------------------------------------------------------------------------------------

    def _carried(self) -> Samples:
        if self._refused is not None:
            raise self._refused
        if self._samples is None:
            try:
                self._carry()
            except Unjudged as unjudged:
                self._refused = unjudged  # also when it was lost after a look: half a load is none
                raise
            except BaseException as lost:
                self._refused = Unjudged(f"the load was lost: {type(lost).__name__}: {lost}", reason=Reason.HARNESS)
                raise
        if self._samples is None:
            raise Unjudged("the load was not carried", reason=Reason.NO_DATA)
        return self._samples

    def _carry(self) -> None:
        asked, run = self.scenario.load, self.run
        if asked is None:
            raise Unjudged("the scenario declares no load", reason=Reason.NO_DATA)
        folder = run.folder / "load" / NAME
        looks = look_sizes(first_look(self.scenario))
        plan = plan_of(run, asked, folder, looks, seed=asked.seed, warm_up=warm_up(self.scenario))
        serves = self.scenario.serving(asked.to)
        self._began, served = time.time(), ServedBy(run, serves, slices=asked.per_pod)
        max_age_s = self.scenario.reach.max_age
        with carrying(run, asked, serves, plan, max_age_s=max_age_s, on_tick=self._tick) as load:
            look = self._looks(load, asked, looks)
            ended = load.stop()
            self._samples, self._client = load.samples(), dict(ended.client)
            self._loaded = loaded(run, serves, load, ended, NAME, look, served, self._requests)
            run.emit(self._loaded)
        self._judge(asked, look, ended.seconds, last=True)

    def _looks(self, load: LoadRun, asked: Load, looks: tuple[int, ...]) -> int:
        """Wait, judge, and go on while a required gate is undecided and none has failed; the number of the last look."""
        look = 1
        while True:
            window = load.wait_look(look, enough=lambda samples: self._burning(samples, asked, load.now()))
            self._samples, self._requests = load.samples(), self._burnt or len(window)
            if self._burnt:
                self._hand_over(load)
            self.run.emit(Marked(name="burn guard" if self._burnt else f"look {look}", load_time=round(load.now(), 3)))
            if self._burnt:
                self.run.emit(Told(line=f"the load ends after {self._burnt} requests: an objective fails beyond doubt"))
                return look
            self._judge(asked, look, load.now(), last=False)
            required = [self.judgements[slo.id] for slo in self.scenario.slos if slo.gate is Gate.REQUIRED]
            outcomes = [one.outcome if isinstance(one, Judgement) else Outcome.INVALID for one in required]
            if look == len(looks) or Outcome.FAIL in outcomes or None not in outcomes:
                return look
            look = load.extend()

    def _hand_over(self, load: LoadRun) -> None:
        """Where users are served, the way back begins at once; elsewhere nobody is hurt by what is still to be asked."""
        run = self.run
        if not self.scenario.guarded or self._samples is None:
            return
        shown = float(self._samples.counted(self._requests).end.max())
        run.halted, run.halted_in = f"after {self._requests} requests of the load an objective fails beyond doubt", SUITE
        with shielded():
            run.hand_over(run.halted)
            late = load.now() - shown
            self._disturbed = self._platform()  # of the candidate's pods, while they are there
        run.emit(Told(line=f"{run.halted}: handed over {late:.2f} s after the end of the one that showed it"))

    def _gate(self, slo: Slo, asked: Load, requests: int, until: float) -> dict[str, Any]:
        """As the record will hold it: judged again it must come to the same."""
        gates = max(1, sum(one.gate is Gate.REQUIRED for one in self.scenario.slos))
        gate = objective.describe(
            slo, asked, requests=requests, until=round(until, 6), required_gates=gates, windows=self.scenario.windows
        )
        found: dict[str, Any] = json.loads(json.dumps(gate))
        return found

    def _burning(self, samples: Samples, asked: Load, until: float) -> bool:
        """At the next count that may be asked; every request up to it has ended, so that no slow one is left out."""
        whole = samples.unbroken()
        requests = whole if asked.arrivals.kind == "spaced" else checkpoint(whole)
        if requests == self._watched:
            return False
        self._watched = requests
        gates = [self._gate(slo, asked, requests, until) for slo in self.scenario.slos if slo.gate is Gate.REQUIRED]
        self._burnt = requests if any(objective.burning(samples, gate) for gate in gates) else 0
        return self._burnt > 0

    def _judge(self, asked: Load, look: int, until: float, *, last: bool) -> None:
        """Every objective on the samples of this look. last: the final word on what is recorded."""
        if self._samples is None:
            return
        if last and self._requests:
            flow = objective.flowed(self._samples, self._requests, round(until, 6))
            self.run.emit(Flowed(load=NAME, look=look, requests=self._requests, until=round(until, 6), flow=flow))
        for slo in self.scenario.slos:
            gate = self._gate(slo, asked, self._requests, until)
            try:
                found: Judgement | Unjudged = objective.judge(self._samples, gate, look=look, last_look=last)
            except Unjudged as unjudged:
                found = unjudged
            self.judgements[slo.id] = found
            if last and isinstance(found, Judgement):
                self.run.emit(
                    Gated(
                        check=f"load.slo[{slo.id}]", load=NAME, look=look, last_look=True, gate=gate,
                        judgement=found.as_record(),
                    )
                )  # fmt: skip

    def _tick(self, progress: Progress) -> None:
        if round(progress.t) % TELL_EVERY == 0:
            self.run.tell(str(progress))

    def _blame(self, detail: str) -> tuple[Blame, str]:
        sound = bool(self._client.get("sound"))
        disturbed = self._platform() if self._disturbed is None else self._disturbed
        errors = self._samples.errors() if self._samples is not None else {}
        if (lost := errors.get("dns", 0)) and 2 * lost >= sum(errors.values()):
            disturbed = [*disturbed, f"{lost} requests had no address to go to: the name was not resolved on the client's side"]
        return attribute(Facts(slo=detail, client_sound=sound, platform=tuple(disturbed)))

    def _platform(self) -> list[str]:
        """What the platform did to the candidate's pods since the load began."""
        return CandidatePods(self.run.cluster, self.run.namespace, self.scenario).disturbed(self._began)

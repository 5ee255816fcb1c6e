"""fault: one declared failure under background traffic: aimed beside, injected, witnessed, recovered from."""

import math
import random
import time
from contextlib import ExitStack

from hotfire.check import Findings, saw
from hotfire.errors import Breach, HarnessError, Unjudged
from hotfire.faults import FAMILIES
from hotfire.faults.control import misaim
from hotfire.faults.family import Family, Sighting, Target
from hotfire.kube.client import Object
from hotfire.kube.wait import pause
from hotfire.load.marks import Mark, Window
from hotfire.load.run import LoadRun
from hotfire.plugin.nouns.load import carrying, loaded, plan_of
from hotfire.plugin.nouns.pods import CandidatePods
from hotfire.plugin.nouns.served import ServedBy
from hotfire.plugin.run import Run
from hotfire.record.events import Faulted, Marked
from hotfire.scenario.model import Fault, Load
from hotfire.scenario.size import chance, wanted
from hotfire.words import Blame, Effect, Reason

EFFECT_S = 60.0  # seconds after the injection in which the effect must show
UNDO_S = 30.0  # seconds in which what was injected must have ended by itself
FIRST_S = 30.0  # seconds for the first answer of the background traffic


class FaultNoun:
    """The noun of suite 80, one for each declared fault; its questions are asked in the order of the suite."""

    def __init__(self, run: Run, asked: Fault, stack: ExitStack) -> None:
        self.run, self.asked, self._stack = run, asked, stack
        self.family: Family = FAMILIES[asked.family]
        self.serves = run.scenario.serving(asked.at)
        self.pods = CandidatePods(run.cluster, run.namespace, run.scenario)
        self._load: LoadRun | None = None
        self._served = ServedBy(run, self.serves)
        self._target: Target | None = None
        self._sighting: Sighting | None = None
        self._applied: Mark | None = None
        self._after: Window | None = None
        self._since = run.cluster.server_time()

    # -- the questions --------------------------------------------------------------------------------------------

    def seen_when_misaimed(self) -> Findings:
        """What the target's witness says after the same injection beside it."""
        self._traffic()
        pod, target = self._choose()
        control = misaim(self.run.cluster, self.run.anchor, self.family, target, pod, self.asked.name[:30])
        data = {"decoy": control.decoy, "hit": control.hit, "evidence": list(control.sighting.evidence)}
        self._step("control", control.sighting.effect, **data)
        saw("control", 1, data, "not seen at the target")
        if control.sighting.confirmed:
            raise Unjudged(f"the witness saw the fault at {target.pod}, it was aimed at {control.decoy}", reason=Reason.CONTROL)
        return Findings()

    def inject(self) -> None:
        """Choose the target, make the intent durable, do it."""
        traffic, run = self._traffic(), self.run
        pod, target = self._choose()
        if refusal := self.family.refusal(pod, target.container):
            raise Unjudged(refusal, reason=Reason.NO_EFFECT)
        self._target = target
        self._aside(traffic, begins=True)
        self._step("target", pod=target.pod, uid=target.uid, container=target.container, node=target.node)
        run.rollout.fault_begins(self.asked.name, target.pod, target.uid)
        self._since = run.cluster.server_time()
        self._step("intent", family=self.family.name, since=self._since.isoformat())
        self._applied = self._mark(traffic, "applied")
        self._step("applied", **self.family.inject(run.cluster, target))

    def unconfirmed(self) -> Findings:
        """Empty once the witness confirmed the effect; raises Unjudged (NO_EFFECT) when it did not in time."""
        target, deadline = self._aimed(), time.monotonic() + EFFECT_S
        sighting = self.family.witness(self.run.cluster, target, self._since)
        while not sighting.confirmed and time.monotonic() < deadline:
            pause(0.2)
            sighting = self.family.witness(self.run.cluster, target, self._since)
        self._sighting = sighting
        self._step("effect", sighting.effect, evidence=list(sighting.evidence), **sighting.data)
        saw("witness", 1, list(sighting.evidence), "confirmed on the target, in the window")
        self._undone(target)
        if not sighting.confirmed:
            raise Unjudged("; ".join(sighting.evidence), reason=Reason.NO_EFFECT)
        return Findings()

    def _undone(self, target: Target) -> None:
        """Look until nothing of the injection is left. What is never seen stays open in the journal: no good end then."""
        deadline = time.monotonic() + UNDO_S
        while not (seen := self.family.undone(self.run.cluster, target)) and time.monotonic() < deadline:
            pause(0.5)
        if seen:
            self.run.rollout.fault_ended(self.asked.name)
            self._step("undone", evidence=[seen])

    def recovery_seconds(self) -> float:
        """From the injection to the first token of a correct answer, asked for on a fresh connection once every pod is
        Ready again. The traffic ends here, once what `error_share` judges is there. Raises Breach when one of the two does
        not come in time, Unjudged CLIENT when the client could not tell."""
        traffic, applied, within = self._traffic(), self._confirmed(), self.asked.serving_again_within
        late = self.pods.not_ready(within=max(within - (traffic.now() - applied.t), 1.0))
        if late:
            raise Breach(late.headline, observed=late.observed, expected=late.expected, blame=late.blame, details=late)
        whole = self._mark(traffic, "at full strength")
        answered = traffic.wait_success(whole, max(within - (whole.t - applied.t), FIRST_S))
        if answered is None:
            _sound(traffic)
            after = traffic.since(whole)
            if not len(after):
                said = f"no request was due after every pod was Ready, in {traffic.now() - whole.t:.1f} s"
                raise Unjudged(said, reason=Reason.INSUFFICIENT, blame=Blame.HARNESS)
            errors = after.errors()
            raise Breach(f"every pod is Ready, and no request on a fresh connection succeeds: {errors}", observed=errors)
        back = self._mark(traffic, "serving again")
        seconds = round(whole.t + answered - applied.t, 3)
        self._step("recovered", seconds=seconds, within=within)
        self._aside(traffic, begins=False)
        self._after = self._ended(traffic, back)
        _sound(traffic)
        saw("first-token", 1, {"seconds": seconds, "to full strength": round(whole.t - applied.t, 3)}, within)
        return seconds

    def error_share(self) -> float:
        """Failed of the first requests due after service was back, as many as the declared share needs."""
        window, needed = self._after, wanted(self.asked)
        if window is None:
            raise Unjudged("service did not come back: there is no time after it", reason=Reason.NO_EFFECT)
        _sound(self._traffic())
        saw("request", len(window), {"failed": window.failed, "classes": window.errors()}, self.asked.errors.text)
        if len(window) < needed:
            said = f"{len(window)} requests after the return have ended without one open before them, {needed} are needed"
            raise Unjudged(said, reason=Reason.INSUFFICIENT)
        return window.error_share()

    def close(self) -> None:
        """End the background traffic and record it; safe when there was none."""
        if (traffic := self._load) is not None:
            self._load = None
            with self._stack:
                if self.run.users.set_aside:
                    self._aside(traffic, begins=False)
                ended = traffic.stop()
                self.run.emit(loaded(self.run, self.serves, traffic, ended, f"fault {self.asked.name}", 1, self._served))

    # -- how ------------------------------------------------------------------------------------------------------

    def _ended(self, traffic: LoadRun, back: Mark) -> Window:
        """Of the requests due after the return as many as are needed, once each has ended; fewer when they do not."""
        needed, asked = wanted(self.asked), self._asked_load()
        each = asked.arrivals.period if asked.arrivals.open else max(asked.arrivals.period, asked.timeout)
        patience = time.monotonic() + needed * each + chance(asked, needed) + asked.timeout
        while len(window := first_due(traffic, back, needed)) < needed and time.monotonic() < patience:
            pause(0.2)
        return window

    def _traffic(self) -> LoadRun:
        """Background traffic: the scenario's arrivals, a seed of its own, each request on a connection of its own."""
        if self._load is not None:
            return self._load
        asked, run = self._asked_load(), self.run
        seconds = 2 * self.asked.serving_again_within + 2 * EFFECT_S + 120
        requests = math.ceil(seconds * asked.arrivals.rate) + wanted(self.asked) + 200
        folder = run.folder / "load" / f"fault-{self.asked.name}"
        seed = random.Random(f"{asked.seed}/{self.asked.name}").randrange(1 << 30)
        plan = plan_of(run, asked, folder, (requests,), seed=seed, warm_up=0, arrivals=asked.arrivals.steady)
        tightest = min(asked.timeout, self.asked.serving_again_within)
        self._load = self._stack.enter_context(carrying(run, asked, self.serves, plan, max_age_s=0.0, scale_s=tightest))
        first = max(FIRST_S, asked.arrivals.period + asked.timeout)
        self._mark(self._load, "traffic")
        if self._load.wait_success(Mark("the first request", 0.0), first) is None:
            raise Unjudged(f"no answer to the background traffic within {first:g} s", reason=Reason.NO_DATA)
        return self._load

    def _asked_load(self) -> Load:
        if self.run.scenario.load is None:
            raise HarnessError("a fault without load: lint refuses it")
        return self.run.scenario.load.model_copy(update={"per_pod": False})  # users ask the Service, and pods go

    def _choose(self) -> tuple[Object, Target]:
        """A Ready pod of the first workload, by the scenario's seed; the whole population must be Ready before."""
        if late := self.pods.not_ready(within=self.asked.serving_again_within):
            raise Unjudged(f"not at full strength before the fault: {late.headline}", reason=Reason.NO_EFFECT, details=late)
        pods = sorted(self.pods.populations()[self.serves].pods, key=lambda pod: str(pod["metadata"]["name"]))
        pod = random.Random(f"{self._asked_load().seed}/{self.asked.name}/target").choice(pods)
        return pod, Target.of(pod, self.serves.container)

    def _aimed(self) -> Target:
        if self._target is None:
            raise Unjudged("the fault was not injected", reason=Reason.NO_EFFECT)
        return self._target

    def _confirmed(self) -> Mark:
        if self._applied is None or self._sighting is None or not self._sighting.confirmed:
            raise Unjudged("the fault was not confirmed: a recovery from it means nothing", reason=Reason.NO_EFFECT)
        return self._applied

    def _aside(self, traffic: LoadRun, *, begins: bool) -> None:
        self.run.users.fault(begins, traffic, self.serves.workload, self._asked_load().arrivals.peak)

    def _mark(self, traffic: LoadRun, what: str) -> Mark:
        mark = traffic.mark(f"{self.asked.name}: {what}")
        self.run.emit(Marked(name=mark.name, load_time=round(mark.t, 3)))
        return mark

    def _step(self, step: str, effect: Effect | None = None, **data: object) -> None:
        self.run.emit(Faulted.model_validate({"fault": self.asked.name, "step": step, "effect": effect, "data": data}))


def first_due(traffic: LoadRun, back: Mark, wanted: int) -> Window:
    """The first so many requests due after a mark, up to the first that is still open: those that hang end last, and would be
    missing among the first to end."""
    found = traffic.samples()
    ended = found.counted(found.unbroken())
    return Window(ended.where(ended.i < (ended.due < back.t).sum() + wanted), back.t, math.inf)


def _sound(traffic: LoadRun) -> None:
    """Ends it; raises Unjudged CLIENT, with cause and remedy, when its client was the bottleneck."""
    client = traffic.stop().client
    if not client["sound"]:
        raise Unjudged(str(client["cause"]), reason=Reason.CLIENT, details=[str(client["remedy"])])

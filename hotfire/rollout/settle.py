"""The end of every run: exactly old, exactly new, or (certify) absent; by whichever process, from the journal alone.

The commit point is one compare-and-swap to CONFIRMED. Before it the only legal end is the old state, after it the new one.
Who restores is the executor's business; here it is this process. A run that died leaves a journal that takeover.py finishes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from hotfire.errors import HarnessError, LeaseLost, Refused
from hotfire.journal.entries import DeleteAdded, PutBack
from hotfire.journal.journal import Journal
from hotfire.journal.store import Stored, drop, owed
from hotfire.kube.client import Object, Ref
from hotfire.kube.wait import pause, shielded
from hotfire.record.events import Back, Changed, Event, Proved, Suspended, Told
from hotfire.record.events import Restored as RestoredEvent
from hotfire.rollout import proof
from hotfire.rollout.ask import through_api_server
from hotfire.rollout.availability import Availability
from hotfire.rollout.closure import WORKLOADS
from hotfire.rollout.committed import digests, moved
from hotfire.rollout.fence import fence
from hotfire.rollout.patience import Patience, Waits, patiently
from hotfire.rollout.proof import Finding, Scene
from hotfire.rollout.release import release
from hotfire.rollout.restore import Restore
from hotfire.rollout.sync import suspended
from hotfire.rollout.waiting import undeployed
from hotfire.scenario.serves import KINDS
from hotfire.words import Decision, Mode, Proof, State, Verdict

Emit = Callable[[Event], object]
Probe = Callable[[], str]
PATIENCE = 2.0  # x rollback.within: beyond the declared time it is late, which its own point says, but still worth finishing
LEAST_S = 20.0
LONGEST = 200  # characters of a point's evidence in the journal
UNKNOWN = "what its checks came to is in its record alone: `hotfire settle RUN` closes it"
UNTOUCHED = dict.fromkeys(
    ("target", "landed", "population", "closure", "function", "traffic", "stability", "devices", "durability"),
    "nothing had been changed",  # so that what serves is as good or as bad as it was, and whoever changed it since may have
)


@dataclass(frozen=True)
class Ending:
    """How a run ended. proofs: point -> what it came to; restored_s, settled_s: seconds since the way back began."""

    state: State
    proofs: Mapping[str, Finding] = field(default_factory=dict)
    restored_s: float | None = None
    settled_s: float | None = None
    problems: tuple[str, ...] = ()

    @property
    def unproven(self) -> list[str]:
        """One line for each point that is not proven, and for each problem on the way."""
        points = [f"{point}: {one.evidence}" for point, one in self.proofs.items() if one.result is Proof.UNPROVEN]
        return [*points, *self.problems]

    def took_s(self, settling_s: float, soak_s: float) -> float:
        """Until what was there before was back; where nothing had to be restored, the new state was proven."""
        return max(0.0, settling_s - soak_s if self.restored_s is None else self.restored_s)

    @property
    def safe(self) -> bool:
        """Whether it is proven what is there now."""
        return self.state.final and not self.unproven and any(one.result is Proof.PROVEN for one in self.proofs.values())

    @property
    def verdict(self) -> Verdict:
        """Of a run that is known by its journal alone: its checks are not, so INCONCLUSIVE at best."""
        return Verdict.INCONCLUSIVE if self.safe else Verdict.UNSAFE


class Executor(Protocol):
    """Who carries the way back out."""

    def begin(self, settling: "Settling", why: str, left: Callable[[], float]) -> None:
        """Return when the journal is RESTORING, by whomever."""

    def restore(self, back: Restore, left: Callable[[], float], waits: Waits) -> None:
        """Return when everything is written. Raises what stopped it. waits: is told each time what it waits for."""

    def tombstone(self, journal: Journal, left: Callable[[], float]) -> Mapping[str, Finding]:
        """For a run that has lost its Lease: what another proved of the end, once it is written; nothing if nobody does."""


class InProcess:
    """This very process. If it dies the journal stays unfinished, and `hotfire abort` restores."""

    def begin(self, settling: "Settling", why: str, left: Callable[[], float]) -> None:
        """Whoever takes over from another first makes what that one has prepared worthless."""
        settling.swap(State.RESTORING, why, left)
        if settling.takes_over:
            patiently(lambda: fence(settling.journal, settling.guard), left)

    def restore(self, back: Restore, left: Callable[[], float], waits: Waits) -> None:
        """Goes on through an API server that does not answer for a while; every step can be repeated."""
        while True:
            patiently(back.go, left, waits)
            if not back.waiting:
                return
            if left() <= 0:
                raise HarnessError(f"the way back is not finished: {'; '.join(back.waiting)}")
            waits("; ".join(back.waiting))
            pause(0.3)

    def tombstone(self, journal: Journal, left: Callable[[], float]) -> Mapping[str, Finding]:
        """Nobody else is there."""
        return {}


@dataclass
class Settling:
    """One settling of one journal. asked: differences of what is live from the manifests, where they are at hand."""

    journal: Journal
    guard: Callable[[], None]
    emit: Emit
    by: str
    executor: Executor = field(default_factory=InProcess)
    probe: Probe | None = None  # asks what served before
    new_probe: Probe | None = None  # asks the candidate
    asked: Callable[[], Sequence[str]] | None = None
    asked_images: frozenset[str] = frozenset()
    takes_over: bool = False  # from a run that may not be as dead as it looks
    of: Back = "end"

    # -- the two ways ---------------------------------------------------------------------------------------------

    def settle(self, decision: Decision, why: str, head: str = "") -> Ending:
        """Carry the decision out and prove it. head: the record's head hash, anchored in the commit.

        A signal does not stop it. What cannot be confirmed is rolled back; what cannot be proven is said to be so.
        """
        with shielded():
            self._catch_up()
            if self.journal.ended:  # by its watchdog, for a run that slept or came late
                seen = written(self.journal) or {"residue": proof.proven("the run has ended, its journal is a tombstone")}
                self._say_end(seen)
                return Ending(self.journal.state, seen)
            try:
                if decision is Decision.CONFIRM and (doubt := self._confirm(head)):
                    self.emit(Told(line=f"not confirmed: {doubt}"))
                    why = doubt
                if self.journal.final and self._proven:
                    return self._tidy_up()
                if self.journal.state is State.CONFIRMED:
                    return self._finish_confirmed()
                return self._end(State.RESTORED, *self._way_back(why))
            except (HarnessError, Refused) as error:
                return self._lost(error)

    def prove_confirmed(self) -> Ending:
        """For a run that died after the commit point: finish it, and prove once more what may have been cleaned up since."""
        with shielded():
            try:
                if self.journal.ended and self.journal.body.proofs:
                    self._say(proofs := written(self.journal))
                    return Ending(self.journal.state, proofs)
                return self._finish_confirmed()
            except (HarnessError, Refused) as error:
                return self._lost(error)

    def rehearse(self) -> Ending:
        """The way back as at an end, but the run goes on: RESTORED only when all twelve points are proven, and by the watchdog
        where there is one. A signal stops it, settling takes it up."""
        self._catch_up()
        proofs, restored, settled = self._way_back(self.of)
        body = self.journal.body
        late = body.watchdog and body.by == self.by
        problems = (f"{body.watchdog} did not restore, the run had to do it itself",) if late else ()
        ending = Ending(State.RESTORED, proofs, restored, settled, problems)
        if ending.safe:
            self.swap(State.RESTORED, self.of, self._left(time.monotonic()), asked="")
        else:
            self.journal.write(done=0)  # the way back is gone once more before the end is proven
        return ending

    def _catch_up(self) -> None:
        """An armed run's journal may have been moved on by the watchdog meanwhile."""
        if self.journal.body.watchdog:
            with suppress(HarnessError, Refused):  # whatever it is, the next write says it
                self.journal.reread()

    @property
    def _proven(self) -> bool:
        """The end was proven by somebody who died before the tombstone was written. RESTORED is written of nothing else."""
        return self.journal.state is State.RESTORED or bool(self.journal.body.proofs)

    def _tidy_up(self) -> Ending:
        self._tombstone(self._left(time.monotonic()))
        return Ending(self.journal.state, {"residue": proof.proven("the end was proven before, only tidying up was left")})

    def _confirm(self, head: str) -> str:
        """The commit point, if the new state is proven; else why not. Nothing is written before it."""
        if self.journal.state is not State.TESTING:
            return f"the journal is {self.journal.state}"
        scene, committed = self._new_scene(), digests(self.journal)  # what changes from here on is no longer as confirmed
        deadline = time.monotonic() + LEAST_S
        for point in ("landed", "population", "closure", "traffic"):
            waits = point != "closure"  # a difference does not go away by waiting
            found = proof.eventually(scene, point, partial(_until, deadline if waits else 0))
            if found.result is Proof.UNPROVEN:
                return f"{point}: {found.evidence}"
        if self.journal.open_faults:
            return f"open faults: {', '.join(one.fault for one in self.journal.open_faults)}"
        self.guard()
        self._move(State.CONFIRMED, "every required check passed", confirmed=head, committed=committed)
        return ""

    def _finish_confirmed(self) -> Ending:
        """After the commit: certify ends absent unless kept, everywhere else the candidate is the owner's now."""
        if not stays(self.journal):
            return self._end(State.CONFIRMED, *self._way_back())
        left = self._left(time.monotonic())
        patiently(lambda: release(self.journal, self.guard), left)
        scene = patiently(self._new_scene, left)
        proofs = self._prove(scene, proof.RESTORED, left)
        proofs |= self._soak(scene)
        reasons = {point: Finding(Proof.NOT_APPLICABLE, "nothing had to be restored") for point in proof.LAST}
        self._say(reasons)
        return self._end(State.CONFIRMED, proofs | reasons, None, None)

    def _way_back(self, why: str = "") -> tuple[Mapping[str, Finding], float, float]:
        """Proofs, and the seconds until restored and until settled. why: begins it; without, it began with the commit."""
        with self._asking() as availability:
            if why:
                self.executor.begin(self, why, self._left(time.monotonic()))
            proofs, restored, settled = self._there()
            served = availability.served() if availability else None
        if not self.journal.theirs:
            self.emit(RestoredEvent(of=self.of, restored_s=round(restored, 3), settled_s=round(settled, 3), served=served))
        return proofs, restored, settled

    def _asking(self) -> AbstractContextManager[Availability | None]:
        """Where somebody was served before, and something was changed."""
        body = self.journal.body
        if self.probe is None or "function" in body.not_applicable or self.journal.untouched or self.journal.theirs:
            return nullcontext()
        return Availability(self.probe, self.journal.cluster, body.namespace, body.services)

    def _there(self) -> tuple[Mapping[str, Finding], float, float]:
        began = time.monotonic()
        left = self._left(began)
        scene = patiently(self._old_scene, left)
        if theirs := self.journal.theirs:
            scene.reasons = dict.fromkeys((*UNTOUCHED, "time"), f"the way back is the owner's: {theirs}")
        elif self.journal.untouched:
            scene.reasons = {**scene.reasons, **UNTOUCHED}
        try:
            self.executor.restore(Restore(self.journal, scene.stored, self.guard), left, Patience(self._tell))
        finally:
            self._say_suspended()
        proofs = self._prove(scene, proof.RESTORED, left)
        restored = time.monotonic() - began
        if all(one.result is not Proof.UNPROVEN for one in proofs.values()):
            scene.restored_s = restored
        proofs |= self._soak(scene) | self._prove(scene, proof.LAST, lambda: 0)
        return proofs, restored, time.monotonic() - began

    def _end(self, end: State, proofs: Mapping[str, Finding], restored: float | None, settled: float | None) -> Ending:
        """Only a proven end is written as one: an unproven one keeps the next run out until somebody has looked."""
        ending = Ending(end, proofs, restored, settled)
        if ending.safe:
            left = self._left(time.monotonic())
            self.swap(end, "proven", left)
            said = {point: f"{one.result} {one.evidence[:LONGEST]}" for point, one in proofs.items()}
            patiently(lambda: self.journal.write(proofs=said), left)
            self._tombstone(left)
        return Ending(self.journal.state, proofs, restored, settled)

    def conclude(self, verdict: Verdict) -> None:
        """The tombstone of a run whose own process can no longer say what it came to."""
        self._tombstone(self._left(time.monotonic()), last_verdict=verdict)

    def _tombstone(self, left: Callable[[], float], last_verdict: Verdict | None = None) -> None:
        def once() -> None:
            self.guard()
            drop(self.journal)
            if last_verdict is None:
                self.journal.write(settled=True)
            else:
                self.journal.conclude(last_verdict, settled=True)

        patiently(once, left)

    # -- proving --------------------------------------------------------------------------------------------------

    def _prove(self, scene: Scene, points: Sequence[str], left: Callable[[], float]) -> dict[str, Finding]:
        found = {}
        for point in points:
            found[point] = proof.eventually(scene, point, left, Patience(self._tell))
            self._say({point: found[point]})
        return found

    def _soak(self, scene: Scene) -> dict[str, Finding]:
        """Watch it for a while, then ask what must not have changed. Nothing to watch, no soak."""
        scene.soaked = patiently(lambda: proof.vitals(scene), self._left(time.monotonic()))
        if scene.soaked:
            pause(self.journal.body.soak_s)
        return self._prove(scene, proof.SETTLED, lambda: 0)

    def _say(self, found: Mapping[str, Finding]) -> None:
        for point, one in found.items():
            self.emit(Proved(of=self.of, point=point, result=one.result, evidence=one.evidence, data=one.data))

    def _say_suspended(self) -> None:
        for event in suspended(self.journal):
            self.emit(event)

    def _tell(self, line: str) -> None:
        self.emit(Told(line=line))

    def _old_scene(self) -> Scene:
        return Scene.of_old(self.journal, owed(self.journal), self.probe, self.guard)

    def _new_scene(self) -> Scene:
        """What the candidate's manifests put there, as it is live now, also what serves no API."""
        body, cluster = self.journal.body, self.journal.cluster
        deployed = [one.ref for kind in (PutBack, DeleteAdded) for one in self.journal.of_type(kind) if one.kind in WORKLOADS]
        others = {str(ref): ref for ref in self.journal.others}
        named = [others.get(name) or _workload(name, body.namespace) for name in body.workloads]
        refs = list(dict.fromkeys([*named, *deployed]))
        refs += [Ref("v1", "Service", body.namespace, name) for name in body.services]
        live: list[Object] = [obj for ref in refs if (obj := cluster.find(ref)) is not None]
        asked = self.asked or (lambda: ["the manifests are not at hand"])
        reasons = {key: said for key, said in body.not_applicable.items() if key == "devices"}
        return Scene(self.journal, Stored(live), self.new_probe, self.guard, self.asked_images, {}, reasons, asked)

    # -- the journal ----------------------------------------------------------------------------------------------

    def swap(self, to: State, why: str, left: Callable[[], float], **more: object) -> None:
        """Like `_move`, through an API server that is away. A swap whose answer was lost is looked up before the next try."""
        if self.journal.state is to and to.final:
            return
        more = {**undeployed(self.journal), **more} if to is State.RESTORING else more
        tried = False

        def once() -> None:
            nonlocal tried
            if tried:
                self.journal.reread()
                if self.journal.state is to and self.journal.body.by == self.by:
                    self.emit(Changed(state=to, by=self.by, why=why))
                    return
            tried = True
            self.guard()
            self._move(to, why, **more)

        patiently(once, left)

    def _move(self, to: State, why: str, **more: object) -> None:
        self.journal.move(to, by=self.by, why=why, **more)
        self.emit(Changed(state=to, by=self.by, why=why))

    def _left(self, began: float) -> Callable[[], float]:
        return partial(_until, began + max(LEAST_S, PATIENCE * self.journal.body.within_s))

    def say_state(self) -> None:
        """Into the record: what another has moved the journal to."""
        self.emit(Changed(state=self.journal.state, by=self.journal.body.by, why=self.journal.body.why))

    def _say_end(self, seen: Mapping[str, Finding]) -> None:
        """Into the record: the end that another brought about."""
        self.say_state()
        self._say(seen)
        self._say_suspended()

    def _lost(self, error: HarnessError | Refused) -> Ending:
        """Nothing more is known than what the journal says, if it still says anything."""
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, LeaseLost) and (seen := self.executor.tombstone(self.journal, self._left(time.monotonic()))):
            self._say_end(seen)
            self.emit(Told(line=f"{problem}: the watchdog brought the run to its end"))
            return Ending(self.journal.state, seen)
        self.emit(Told(line=f"the end is not proven: {problem}"))
        try:
            self.journal.reread()
        except (HarnessError, Refused) as also:
            problem = f"{problem}; the journal cannot be read: {also}"
        return Ending(self.journal.state, problems=(problem,))


def written(journal: Journal) -> dict[str, Finding]:
    """What another process has proven and left in the journal."""
    found = {point: said.partition(" ") for point, said in journal.body.proofs.items()}
    return {point: Finding(Proof(result), f"by {journal.body.by}: {said}") for point, (result, _, said) in found.items()}


def _until(deadline: float) -> float:
    """Seconds left."""
    return deadline - time.monotonic()


def _workload(name: str, namespace: str) -> Ref:
    kind, _, plain = name.partition("/")
    return Ref("apps/v1", KINDS[kind], namespace, plain)


def stays(journal: Journal) -> bool:
    """Whether the candidate was confirmed and serves on; by its journal alone nobody knows what its checks came to."""
    body = journal.body
    return body.state is State.CONFIRMED and (body.mode is Mode.PROMOTE or body.keep)


def finish(journal: Journal, guard: Callable[[], None], tell: Callable[[str], None], by: str, why: str) -> Ending:
    """Restore or clean up for a run that is dead, prove it through the API server, and write its tombstone."""

    def say(event: Event) -> None:
        if isinstance(event, Proved):
            tell(f"{event.result:14}  {event.point}: {event.evidence}")
        elif isinstance(event, RestoredEvent) and event.served:
            tell(str(event.served))
        elif isinstance(event, Told | Suspended):
            tell(event.line)
        elif isinstance(event, Changed):
            tell(f"state {event.state}: {event.why}")

    ask = through_api_server(journal)
    same = partial(moved, journal)
    settling = Settling(journal, guard, say, by, probe=ask, new_probe=ask, asked=same, takes_over=True)
    ending = settling.settle(Decision.ROLL_BACK, why)
    residue = ending.proofs.get("residue")
    released = residue is not None and residue.result is Proof.PROVEN
    if stays(journal):
        ending = replace(ending, problems=(*ending.problems, UNKNOWN))
    if ending.safe or (stays(journal) and released):  # nothing more can be found out from here
        settling.conclude(ending.verdict)
    return ending

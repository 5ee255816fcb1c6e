"""`hotfire settle RUN` for a run that confirmed and died before its record was closed. What serves is proven to be what was
confirmed, and the record is closed with a verdict of its own checks. The record lost, nobody knows those: UNSAFE."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from hotfire.errors import BadInput, HarnessError, Refused
from hotfire.gates.decision import Ending, outcomes, verdict
from hotfire.journal.journal import Journal, next_step
from hotfire.kube.client import Cluster
from hotfire.plugin.secrets import every, secret_values
from hotfire.record.events import Changed, Closed, Concluded, Entry, Event, Judged, Opened, PlannedCheck, Seen, Told
from hotfire.record.reader import read_as_far
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.report import live, reported
from hotfire.report.story import RECORD
from hotfire.rollout import job
from hotfire.rollout.ask import through_api_server
from hotfire.rollout.closure import is_workload, referred
from hotfire.rollout.committed import moved
from hotfire.rollout.settle import Ending as Settlement
from hotfire.rollout.settle import Settling, finish
from hotfire.rollout.sync import suspended
from hotfire.rollout.takeover import known, patience_s, succeed
from hotfire.words import Outcome, Proof, Reason, State, Verdict

Tell = Callable[[str], None]


def settle(cluster: Callable[[], Cluster], folder: Path, namespace: str | None, *, gone: bool = False, tell: Tell) -> Verdict:
    """Prove and close; the verdict, the run's own where it has ended. Safe to repeat.

    gone: it is known that there is no record any more; namespace: where the record does not say it. Raises BadInput where
    neither a record is nor `gone`, and when no journal is of this run; Refused while the run or its watchdog is alive and
    for one that never confirmed.
    """
    if not gone and not (folder / RECORD).is_file():
        raise BadInput(
            f"{folder}: no {RECORD} in it, the folder of a run is expected, or --record-lost if there is none any more"
        )
    entries, lost = record_of(folder)
    journal = journal_of(cluster, folder, namespace or _namespace(entries))
    if journal.ended and (journal.state is not State.CONFIRMED or _closed(entries) or lost):
        reached = Verdict(journal.body.last_verdict or Verdict.INCONCLUSIVE)
        tell(f"run {journal.body.run} has ended {journal.state}, {reached}: nothing to do")
        if journal.theirs and journal.state is State.RESTORED:
            tell(f"hotfire restored nothing: {journal.theirs} must roll back")
        for event in suspended(journal):
            tell(event.line)
        return reached
    if journal.state is not State.CONFIRMED:
        raise Refused(f"run {journal.body.run} confirmed nothing, it is {journal.state}: {next_step(journal.body)}")
    body = journal.body
    lease = succeed(journal, f"settle-{body.run}", patience_s(body), tell)  # None: a watchdog has cleaned up meanwhile
    if journal.body.run != body.run:
        raise Refused(f"run {journal.body.run} has begun on the tombstone of run {body.run}")
    with lease or nullcontext():
        guard = lease.guard if lease else _nobody_else
        lost = lost or _unfit(entries, body.confirmed)
        if not lost:
            return _Close(journal, guard, folder, entries, tell).close()
        tell(f"the record of run {body.run} is lost ({lost}): nobody knows what its checks came to")
        return finish(journal, guard, tell, f"settle-{body.run}", "the record is lost").verdict if lease else Verdict.UNSAFE


def _nobody_else() -> None:
    """The journal is a tombstone: its compare-and-swap alone tells whether a next run has begun."""


def record_of(folder: Path) -> tuple[list[Entry], str]:
    """What holds of it, and why it cannot be gone on with; a torn last line was never written."""
    if not (folder / RECORD).is_file():
        return [], f"no {folder / RECORD}"
    entries, broken = read_as_far(folder / RECORD)
    if broken is not None and not broken.torn:
        return entries, f"line {broken.line}: {broken.why}"
    if not entries or opened(entries).run != folder.name:
        return [], "it is of another run"
    return entries, ""


def _unfit(entries: list[Entry], confirmed: str) -> str:
    """Why this whole record cannot be gone on with."""
    if _closed(entries):
        return "it is closed without a proven end"
    return "" if confirmed in {one.hash for one in entries} else "it does not hold what was confirmed"


def opened(entries: list[Entry]) -> Opened:
    """Raises BadInput for a file that begins like no record."""
    first = entries[0].event
    if not isinstance(first, Opened):
        raise BadInput(f"a record begins with `opened`, this one with `{first.type}`")
    return first


def _namespace(entries: list[Entry]) -> str:
    """Where the record says that the run went; empty where nothing says it."""
    return opened(entries).namespace if entries else ""


def _closed(entries: list[Entry]) -> bool:
    return bool(entries) and isinstance(entries[-1].event, Closed)


def journal_of(cluster: Callable[[], Cluster], folder: Path, namespace: str) -> Journal:
    if not namespace:
        raise BadInput(f"{folder}: no record says where this run went: --namespace is expected")
    found, unknown = known(cluster(), namespace)
    journal = next((one for one in found if one.body.run == folder.name), None)
    if journal is None:
        raise unknown[0] if unknown else BadInput(f"{folder}: no journal in namespace {namespace} is of run {folder.name}")
    return journal


def anchors_of(cluster: Callable[[], Cluster], folder: Path, namespace: str | None) -> list[str]:
    """The heads of its record that a run's journal holds, the one of its commit point too. Raises as `journal_of` does."""
    entries, _ = record_of(folder := folder.resolve())
    body = journal_of(cluster, folder, namespace or _namespace(entries)).body
    return list(dict.fromkeys([*body.anchors, *([body.confirmed] if body.confirmed else [])]))


class _Close:
    """Goes on with a record that stops after the commit point."""

    def __init__(self, journal: Journal, guard: Callable[[], None], folder: Path, entries: list[Entry], tell: Tell) -> None:
        self.journal, self.guard, self.folder, self.tell = journal, guard, folder, tell
        self.redactor = _redactor(journal)
        self.recorder = Recorder(folder / RECORD, self.redactor, after=entries)
        self.recorder.listen(lambda entry: list(map(tell, live.lines(entry.event))))

    def close(self) -> Verdict:
        """Prove, judge what suite 90 would have, conclude."""
        body = self.journal.body
        emit: Callable[[Event], object] = self.recorder.emit
        emit(Told(line="`hotfire settle` goes on with the record of a run that died after it had confirmed"))
        if Ending.of(self.recorder.entries).state is not State.CONFIRMED:
            emit(Changed(state=State.CONFIRMED, by=body.by, why=body.why))
        ask, began = through_api_server(self.journal), time.monotonic()
        settling = Settling(self.journal, self.guard, emit, body.by, probe=ask, new_probe=ask,
                            asked=lambda: moved(self.journal))  # fmt: skip
        ending = settling.prove_confirmed()
        answer(self.recorder, ending, ending.took_s(time.monotonic() - began, body.soak_s), body.within_s)
        reached, because = verdict(self.recorder.entries, Ending.of(self.recorder.entries, closing=True))
        emit(Concluded(verdict=reached, because=because))
        try:
            self.journal.conclude(reached)
            if self.journal.ended and body.watchdog:
                job.remove(self.journal, self.guard)
        except HarnessError as error:
            emit(Told(line=f"the tombstone could not be written: {error}"))
        emit(Closed())
        return reported(self.folder, self.redactor, reached, self.tell, self.journal.conclude)


def answer(recorder: Recorder, ending: Settlement, seconds: float, within_s: float) -> None:
    """The checks that are asked after the decision, as far as nobody has asked them yet. seconds: to the proven end."""
    proven = [point for point, one in ending.proofs.items() if one.result is Proof.PROVEN]
    late = seconds > within_s
    answers = {
        "settle.restored": ("proof-point", len(proven) or len(ending.unproven), proven, "; ".join(ending.unproven)),
        "settle.within": ("time", 1, seconds, f"{seconds:.1f} s, {within_s:g} s are allowed" if late else ""),
    }
    silent = [one.planned for one in outcomes(recorder.entries).values() if one.reason is Reason.SILENT]
    for planned in [one for one in silent if one.id in answers]:
        _answer(recorder, planned, *answers[planned.id])


def _answer(recorder: Recorder, planned: PlannedCheck, noun: str, count: int, seen: object, wrong: str) -> None:
    recorder.emit(Seen(check=planned.key, noun=noun, count=count, observed=seen))
    if wrong:
        failed = {"outcome": Outcome.FAIL, "reason": Reason.BREACH, "blame": planned.blames, "message": wrong}
        recorder.emit(Judged.model_validate({"check": planned.key, **failed}))
    else:
        recorder.emit(Judged(check=planned.key, outcome=Outcome.PASS))


def _redactor(journal: Journal) -> Redactor:
    """Knows the values of every Secret that the candidate has to do with."""
    cluster, space, redactor = journal.cluster, journal.body.namespace, Redactor()
    refs = [entry.ref for entry in journal.body.entries if hasattr(entry, "ref")]
    for ref in [ref for ref in refs if is_workload(ref, journal.others)]:
        live = cluster.find(ref)
        refs += referred(live, space) if live else ()
    for name in dict.fromkeys(ref.name for ref in refs if ref.kind == "Secret"):
        every(redactor, name, secret_values(cluster, space, name))
    return redactor

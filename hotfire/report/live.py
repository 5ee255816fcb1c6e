"""What a run says while it goes: one line per event, exact and plain, and the block that a failure deserves."""

from collections.abc import Iterator

from hotfire.gates.flow import words
from hotfire.record.events import (
    Armed,
    Changed,
    Concluded,
    Counted,
    Decided,
    Deployed,
    Event,
    Faulted,
    Flowed,
    Gated,
    Judged,
    Loaded,
    Opened,
    Planned,
    Proved,
    Restored,
    Signalled,
    Snapshot,
    Stage,
    Suspended,
    Told,
)
from hotfire.words import Outcome, Proof

DETAILS = 12  # lines of a failure shown live; all of them are in the record


def lines(event: Event) -> list[str]:
    """The lines of one event for the terminal; none for what only the record needs."""
    return list(_lines(event))


def failure(event: Judged) -> list[str]:
    """The block of DESIGN 7: what was seen, line by line, and whose it is."""
    head = f"{event.outcome} {event.check}: {_one(event.message) or event.reason or 'no message'}"
    shown = [f"  {_one(line)}" for line in event.details[:DETAILS] if _one(line) != _one(event.message)]
    more = [f"  … {len(event.details) - DETAILS} more lines in the record"] if len(event.details) > DETAILS else []
    reason = f"{event.reason}  " if event.reason and event.outcome is Outcome.INVALID else ""
    return [head, *shown, *more, f"  {reason}blame: {event.blame or 'not attributed'}"]


def _lines(event: Event) -> Iterator[str]:
    match event:
        case Opened():
            yield f"run {event.run}: {event.about}"
            yield f"  {event.mode} on {event.stand}; accelerators: {event.accelerators}; way back: {event.way_back}"
            if event.owner:
                yield f"  {event.owner} syncs by itself: hotfire restores nothing without `consent: [suspend-sync]`"
        case Planned():
            asked = sum(check.asked for check in event.checks)
            yield f"planned: {asked} checks, {len(event.checks) - asked} not asked"
        case Stage(phase="began"):
            yield f"── {event.suite.removeprefix('test_').replace('_', ' ')}"
        case Snapshot():
            yield f"snapshot: {len(event.objects)} objects, sha256 {event.digest[:12]}"
            yield from (f"  not in it: {line}" for line in event.left_out)
        case Deployed():
            yield f"deployed: {len(event.objects)} objects"
        case Armed():
            yield f"{event.pod} watches: it rehearsed the way back and holds its Lease"
        case Judged():
            yield from _judged(event)
        case Loaded():
            sound = "sound" if event.client.get("sound") else f"UNSOUND: {event.client.get('cause', 'no reason given')}"
            warm = f", after {event.warm_up:,} of warm-up" if event.warm_up else ""
            yield f"load {event.name} to {event.to}, look {event.look}: {event.arrivals}{warm}, client {sound}"
        case Gated():
            said = event.judgement.get("detail") or event.judgement.get("outcome")
            yield f"gate {event.check}, look {event.look}: {said}"
        case Flowed():
            yield f"load {event.load}, look {event.look}: {words(event.flow)}"
        case Counted():
            yield f"{event.check}: the pods counted {event.requests:,} requests, {event.ours:,} of them hotfire's own"
        case Faulted():
            effect = f" {event.effect}" if event.effect else ""
            yield f"fault {event.fault}: {event.step}{effect}"
        case Changed():
            yield f"state {event.state}" + (f" ({event.why})" if event.why else "")
        case Decided():
            yield f"decision {event.decision}: {_one(event.because[0]) if event.because else ''}"
        case Proved() if event.result is not Proof.NOT_APPLICABLE:
            yield f"{event.result.value.lower()}: {event.point}: {_one(event.evidence)}"
        case Restored():
            before = "" if event.of == "end" else f"{event.of}: "
            yield f"{before}restored after {event.restored_s:.1f} s, settled after {event.settled_s:.1f} s"
            yield from (f"{before}{event.served}",) if event.served else ()
        case Signalled():
            yield f"{event.signal}: stopping, the way back begins; the verdict is INCONCLUSIVE at best"
        case Told() | Suspended():
            yield _one(event.line)
        case Concluded():
            yield f"{event.verdict} (exit {event.verdict.exit_code})"
            yield from (f"  {_one(line)}" for line in event.because[:6])


def _judged(event: Judged) -> Iterator[str]:
    if event.outcome in (Outcome.FAIL, Outcome.INVALID):
        yield from failure(event)
    else:
        said = _one(event.message) or (event.reason or "")
        yield f"{event.outcome} {event.check}" + (f": {said}" if said else "") + f"  {event.seconds:.1f}s"


def _one(text: str) -> str:
    """One line, without what a terminal would act on."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())

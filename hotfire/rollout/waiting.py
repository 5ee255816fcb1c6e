"""Pipeline mode, between two commands of one run: its watchdog holds the Leases, without a moment in which nobody does.

The journal's state says whose turn it is, and moves before a Lease does: on WAITING the watchdog takes the Leases from the
run, on TESTING the run takes them from the watchdog. A run that dies in between leaves them unrenewed, which is its death.
"""

import time
from collections.abc import Mapping

from hotfire.errors import HarnessError, LeaseLost, Refused
from hotfire.journal.entries import DeleteAdded, Entry, PutBack, ReplacePods
from hotfire.journal.journal import Journal, next_step
from hotfire.journal.lease import Lease, Sight, leases_of
from hotfire.journal.store import fetch
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.wait import pause
from hotfire.rollout.closure import autoscaled
from hotfire.rollout.helm import later
from hotfire.rollout.may_differ import comparable
from hotfire.words import State

TAKEN_S = 20.0  # seconds for the one to take the Leases that the other has left to it


def hand_over(journal: Journal, lease: Lease, why: str, entries: tuple[Entry, ...] = (), **more: object) -> None:
    """The run -> its watchdog; entries: what undoes the pipeline's deploy, durable in the same write.

    Raises HarnessError when no watchdog takes the Leases: the run holds them still, and has to settle.
    """
    lease.guard()
    body = journal.body
    journal.move(State.WAITING, by=body.run, why=why, entries=(*body.entries, *entries), **more)
    sight = Sight(journal.cluster, leases_of(journal), body.lease_s)
    deadline = time.monotonic() + TAKEN_S
    while not _the_watchdogs(sight):
        if time.monotonic() > deadline:
            raise HarnessError(f"the watchdog {body.watchdog} does not take the Lease over")
        pause(0.1)
    lease.leave()


def _the_watchdogs(sight: Sight) -> bool:
    sight.look()
    return all(live is not None and live["spec"]["holderIdentity"].startswith("watchdog/") for live in sight.live.values())


def take_back(journal: Journal, why: str, **more: object) -> Lease:
    """The watchdog -> the run, as another process. more: changes of the journal in the same write.

    Raises Refused for a run that does not wait, or no longer.
    """
    body = journal.body
    if journal.state is not State.WAITING:
        raise Refused(f"run {body.run} is {journal.state}, it does not wait: {next_step(body)}")
    try:
        journal.move(State.TESTING, by=body.run, why=why, **more)
    except LeaseLost:
        journal.reread()
        raise Refused(f"run {body.run} is {journal.state} ({journal.body.by}: {journal.body.why}), it does not wait") from None
    sight = Sight(journal.cluster, leases_of(journal), body.lease_s)
    deadline = time.monotonic() + TAKEN_S
    while True:
        sight.look()
        if (lease := Lease.inherit(sight, body.run, body.lease_s)) is not None:
            return lease
        if time.monotonic() > deadline:
            raise HarnessError(f"the Lease of run {body.run} cannot be taken back from {', '.join(sight.holders)}")
        pause(0.1)


def undeployed(journal: Journal) -> Mapping[str, tuple[Entry, ...]]:
    """What a move to RESTORING changes besides: what the pipeline never did, or its owner alone can undo, hotfire leaves."""
    if journal.theirs:
        return {"entries": tuple(entry for entry in journal.body.entries if not _pipelines(entry))}
    waiting = journal.body.deploy_by and journal.state in (State.WAITING, State.TESTING)
    return {"entries": ()} if waiting and as_before(journal) else {}


def _pipelines(entry: Entry) -> bool:
    """Whether it undoes the pipeline's deploy, and not what the run added beside it."""
    return isinstance(entry, PutBack | ReplacePods) or (isinstance(entry, DeleteAdded) and entry.pipelines)


def as_before(journal: Journal) -> bool:
    """Whether nobody has written the closure since it was stored; what controllers and autoscalers write is no deploy."""
    stored, cluster = fetch(journal), journal.cluster
    added = any(cluster.find(ref) for ref in stored.absent) or any(later(cluster, stored.objects))
    return not added and all(_same(cluster, obj, cluster.find(Ref.of(obj))) for obj in stored.objects)


def _same(cluster: Cluster, obj: Object, live: Object | None) -> bool:
    """Configuration is read once, by whatever starts meanwhile: there and back again is a change."""
    if live is None or live["metadata"]["uid"] != obj["metadata"]["uid"]:
        return False
    if obj["kind"] in ("ConfigMap", "Secret"):
        return bool(live["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"])
    scaled = autoscaled(cluster, live, obj)
    return comparable(live, scaled) == comparable(obj, scaled)

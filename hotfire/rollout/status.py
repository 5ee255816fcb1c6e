"""`hotfire status`: what each journal says, who is at it now, and what the next command is. One look, nothing is written."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from hotfire.errors import Refused
from hotfire.journal.journal import Journal, lying, lying_away, next_step, parse
from hotfire.journal.lease import leases_of
from hotfire.kube.client import ApiError, Cluster, Forbidden, Object
from hotfire.rollout.sync import said_of, suspensions, syncs
from hotfire.rollout.watchdog import lease_ref
from hotfire.words import State


def describe(cluster: Cluster, namespace: str) -> Sequence[str]:
    """A line for each journal in a namespace, or in all, and one for each owner that its way back suspended. Where none lies
    in the namespace, those elsewhere that may be read: a created namespace has its journal away."""
    lines = [line for live in lying(cluster, namespace) for line in _lines(cluster, live)]
    if not lines and namespace:
        with suppress(Forbidden):
            lines = [line for live in lying_away(cluster, namespace) for line in _lines(cluster, live, namespace)]
    return lines or ["no journal of hotfire there"]


def _lines(cluster: Cluster, live: Object, about: str = "") -> Sequence[str]:
    """about: the namespace that was asked for, where others have names that begin like it."""
    try:
        journal = Journal(cluster, live, parse(live))
        return [] if about not in ("", journal.body.namespace) else [_line(journal), *_suspended(journal)]
    except Refused as refused:
        return [f"{live['metadata']['namespace']}  {refused}  NOT UNDERSTOOD"]


def _line(journal: Journal) -> str:
    body = journal.body
    why = f", {body.why}" if body.why else ""
    said = f"{body.namespace}  {', '.join(body.workloads)}  {body.state} since {body.since} (run {body.run}{why})"
    said += f"  {body.last_verdict or 'none'}"
    return said if journal.ended else f"{said}  NOT ENDED: {_next(journal)}"


def _suspended(journal: Journal) -> Iterator[str]:
    """Owners that nobody has resumed since; one that may not be read is said as the run left it."""
    for entry in suspensions(journal):
        try:
            owner = journal.cluster.find(entry.ref)
        except ApiError as error:
            yield f"  {said_of(entry).line} (whether it still is: {error.message})"
            continue
        if owner is not None and not syncs(owner):
            yield f"  {said_of(entry).line}"


def _next(journal: Journal) -> str:
    """By the time of the last renewal: good enough to tell people, whoever acts reads the Lease for 4T/3 first."""
    body, home = journal.body, journal.ref.namespace
    if body.state is State.WAITING:
        return next_step(body)
    held = [live for ref in leases_of(journal) if (live := journal.cluster.find(ref))]
    watch = journal.cluster.find(lease_ref(home, journal.ref.name)) if body.watchdog else None
    now = journal.cluster.server_time()
    holders = [one["spec"]["holderIdentity"] for one in held if _renewed(one, now)]
    if watch is not None and _renewed(watch, now) and (not holders or body.state is State.RESTORING):
        return f"the watchdog {watch['spec']['holderIdentity']} is at it: wait for it"
    if holders:
        return f"{holders[0]} is at it: wait for it"
    wait = ", or the next run with --wait closes it: nothing had been changed" if journal.untouched else ""
    return f"nobody is at it: {next_step(body)}{wait}"


def _renewed(lease: Object, now: datetime) -> bool:
    spec = lease["spec"]
    if not spec.get("holderIdentity"):
        return False
    age = (now - datetime.fromisoformat(spec["renewTime"])).total_seconds()
    return age <= 4 / 3 * float(spec["leaseDurationSeconds"]) + 1  # the server's clock is rounded down to a second

"""What is done for a run that is dead, from its journal alone: `hotfire abort` and `resume`, and a next run's own look.

Who is dead is read from the Leases, by the rule of DESIGN 4; who brings a dead run to its end holds them meanwhile. A
watchdog that lives is let finish: it is the faster one, and only one may write.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hotfire.errors import BadInput, Damaged, Refused
from hotfire.journal.journal import SELECT, Body, Journal, away, lying, next_step, parse
from hotfire.journal.lease import API, Lease, Sight, busy, leases_of, ours
from hotfire.kube.client import ApiError, Cluster, Forbidden, Ref
from hotfire.kube.wait import pause
from hotfire.rollout import job
from hotfire.rollout.proof import proven
from hotfire.rollout.settle import PATIENCE, UNKNOWN, Ending, finish, stays
from hotfire.rollout.watchdog import lease_ref
from hotfire.scenario.serves import key_of
from hotfire.words import State

Tell = Callable[[str], None]


def abort(cluster: Cluster, namespace: str, workload: str | None = None, *, tell: Tell) -> Ending | None:
    """Bring what dead runs left in a namespace to its end, whatever it is. Safe to repeat; None: there was nothing to do.

    Raises Refused while a living run holds the Lease or for a journal of another version, Damaged for one that is none.
    """
    found, unknown, others = _unended(cluster, namespace, workload)
    if not found and not unknown and (others or not free(cluster, namespace, tell)):
        tell(f"namespace {namespace}: every run on {workload or 'it'} has ended: nothing to do{others}")
    return _finished(found, unknown, "abort", tell)


def resume(cluster: Cluster, namespace: str, workload: str | None = None, *, tell: Tell) -> Ending | None:
    """Go on with the way back of runs that are dead, or whose executor is, and prove it. Safe to repeat; None: nothing to do.

    Raises as `abort` does, and Refused for a run that was confirmed: nothing of it is to be restored.
    """
    found, unknown, others = _unended(cluster, namespace, workload)
    confirmed = [journal for journal in found if journal.state is State.CONFIRMED]
    if not found and not unknown:
        tell(f"namespace {namespace}: no way back on {workload or 'it'} is unfinished: nothing to do{others}")
    unknown += [Refused(f"run {one.body.run} confirmed {_names(one)}: {next_step(one.body)}") for one in confirmed]
    return _finished([journal for journal in found if journal not in confirmed], unknown, "resume", tell)


def make_way(
    cluster: Cluster, home: str, workloads: Sequence[str], namespace: str, run: str, wait_s: float, tell: Tell
) -> float:
    """Before a run: wait, wait_s seconds at most, for runs before it that are brought to their end by others, and close one
    that died before it changed anything. The seconds that are left.

    Raises Refused while one is alive. What else is not ended is for `Journal.open` to refuse.
    """
    deadline = time.monotonic() + wait_s
    for workload in workloads:
        before = Journal.read(cluster, home, workload, namespace)
        if before is None or before.ended:
            continue
        lease = succeed(before, run, deadline - time.monotonic(), tell)
        if lease is not None:
            with lease:
                if before.untouched:
                    tell(f"run {before.body.run} died {before.state} and had changed nothing: closing its journal")
                    _finish(before, lease, run, tell)
    return max(0.0, deadline - time.monotonic())


def succeed(journal: Journal, heir: str, wait_s: float, tell: Tell) -> Lease | None:
    """The Leases of a run that is dead; None once its journal has ended. Whom it waits for is told once.

    Raises Refused after wait_s seconds while somebody is alive who will end it: the run, or its watchdog.
    """
    cluster, body, home = journal.cluster, journal.body, journal.ref.namespace
    leases = Sight(cluster, leases_of(journal), body.lease_s)
    watchdog = Sight(cluster, [lease_ref(home, journal.ref.name)] if body.watchdog else [], body.lease_s)
    deadline, told = time.monotonic() + wait_s, ""
    while True:
        try:
            dead = [leases.look(), watchdog.look()]
            journal.reread()
        except ApiError as error:
            if not error.passing or time.monotonic() > deadline:
                raise
            pause(0.2)
            continue
        for live in filter(None, leases.live.values()):
            ours(live)
        if journal.ended or journal.body.run != body.run:
            return None
        if not leases.holders or all(dead):
            if (lease := Lease.inherit(leases, heir, body.lease_s)) is not None:
                return lease  # else somebody took one since the look
        elif time.monotonic() >= deadline:
            raise Refused(_alive(journal, leases, watchdog))
        elif (whom := _alive(journal, leases, watchdog).partition(": ")[0]) != told:
            tell(f"waiting: {whom}")
            told = whom
        pause(min(0.5, body.lease_s / 6))


def patience_s(body: Body) -> float:
    """Seconds in which a dead run's Lease has run out, and its watchdog, if it has one, has restored."""
    return 2 * body.lease_s + (PATIENCE * body.within_s if body.watchdog else 0)


def _alive(journal: Journal, leases: Sight, watchdog: Sight) -> str:
    """Who is at it, as far as one look tells."""
    body = journal.body
    if journal.state is State.RESTORING and (watchdog.holders or any(one.startswith("watchdog/") for one in leases.holders)):
        who = ", ".join(watchdog.holders) or body.by
        return (
            f"{_names(journal)} in {body.namespace} is being restored by the watchdog {who} for run {body.run} since "
            f"{body.since}: wait for it (--wait 15m)"
        )
    if journal.state is State.WAITING:
        return f"run {body.run} waits for the pipeline of {_names(journal)} in {body.namespace}: {next_step(body)}"
    ref, live = next((ref, live) for ref, live in leases.live.items() if live and live["spec"].get("holderIdentity"))
    return busy(ref, _names(journal), live)


def known(cluster: Cluster, namespace: str) -> tuple[list[Journal], list[Refused]]:
    """Journals about a namespace; what lies there and cannot be read, as it is to be said.

    Where none lies in the namespace, those elsewhere that may be read: a created namespace has its journal away.
    """
    found: list[Journal] = []
    unknown: list[Refused] = []
    for live in lying(cluster, namespace):
        try:
            found.append(Journal(cluster, live, parse(live)))
        except Refused as refused:
            unknown.append(refused)
    if not found and not unknown:
        with suppress(Forbidden):
            found = list(away(cluster, namespace))
    return [one for one in found if one.body.namespace == namespace], unknown


def _unended(cluster: Cluster, namespace: str, workload: str | None) -> tuple[list[Journal], list[Refused], str]:
    """Journals about the workload, what cannot be read, and what else is not ended, for who has mistyped the workload.

    Raises BadInput for a namespace that neither is there nor ever was a run's.
    """
    found, unknown = known(cluster, namespace)
    if not found and not unknown:
        with suppress(Forbidden):
            if cluster.find(Ref("v1", "Namespace", "", namespace)) is None:
                raise BadInput(f"--namespace {namespace}: not there, and no journal of hotfire is about it")
    key = key_of(workload) if workload else ""
    unended = [one for one in found if not one.ended]
    asked = [one for one in unended if not key or key in one.body.workloads]
    others = ", ".join(f"run {one.body.run} on {_names(one)}" for one in unended if one not in asked)
    return asked, unknown, f"; not ended here: {others}" if others else ""


def free(cluster: Cluster, namespace: str, tell: Tell) -> list[str]:
    """A run that died before its journal was there, or after its tombstone was, still holds its Leases: free them; whose
    they were. For a namespace without an unended journal. Raises Refused while one is renewed."""
    freed = []
    for live in cluster.list(API, "Lease", namespace, labels=SELECT):
        ref, holder = Ref.of(live), str(live["spec"].get("holderIdentity") or "")
        if holder and ref.name.startswith("hotfire-"):  # a watchdog's own is none of a workload
            length = float(live["spec"].get("leaseDurationSeconds") or 30)
            Lease.take_named(cluster, {ref: ref.name}, f"abort-{holder}", length, wait_s=2 * length).release()
            tell(f"run {holder} died without a journal that has to be finished: its Lease {ref.name} is free again")
            freed.append(holder)
    return freed


def _take_over(journal: Journal, by: str, tell: Tell) -> Ending:
    body = journal.body
    tell(f"run {body.run} left {_names(journal)} {body.state} since {body.since}: taking over")
    lease = succeed(journal, f"{by}-{body.run}", patience_s(body), tell)
    if lease is None:  # its watchdog was faster
        tell(f"run {body.run} was ended {journal.state} by its watchdog")
        problems = (UNKNOWN,) if stays(journal) else ()
        return Ending(journal.state, {"residue": proven("the journal is a tombstone")}, problems=problems)
    with lease:
        return _finish(journal, lease, by, tell)


def _finish(journal: Journal, lease: Lease, by: str, tell: Tell) -> Ending:
    ending = finish(journal, lease.guard, tell, by, by)
    if journal.ended and journal.body.watchdog:  # one that could never run would stay for hours
        try:
            job.remove(journal, lease.guard)
        except ApiError as error:
            tell(f"the watchdog {journal.body.watchdog} is still there: {error.message}")
    return ending


def _finished(found: Sequence[Journal], refused: Sequence[Refused], by: str, tell: Tell) -> Ending | None:
    """How the worst of them ended; those that can be finished are, then what stood against the others is said."""
    endings, against = list[Ending](), list(refused)
    for journal in found:
        try:
            endings.append(ending := _take_over(journal, by, tell))
            for line in ending.problems:
                tell(line)
        except Refused as error:
            against.append(error)
    if against:
        damaged = any(isinstance(one, Damaged) for one in against)
        raise (Damaged if damaged else Refused)("\n".join(map(str, against)))
    return min(endings, key=lambda ending: ending.safe, default=None)


def _names(journal: Journal) -> str:
    return ", ".join(journal.body.workloads)

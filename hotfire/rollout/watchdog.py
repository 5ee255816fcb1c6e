"""The watchdog: the Job that restores when a run asks it to, or can no longer ask. `python -m hotfire.rollout.watchdog`

It never decides. It restores (1) when the journal says that the run asks for it, (2) when the run's Lease was read unchanged
for 4T/3, (3) when `settle_by` has passed. While the run is WAITING for its pipeline the watchdog holds that Lease itself, and
closes the run once `deploy_by` has passed and nobody has deployed. After CONFIRMED it only cleans up for a run that is dead.
While the run lives it writes and the run is the witness that proves; for a dead run it proves itself and writes the tombstone.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from hotfire.errors import BadInput, HotfireError, Interrupted, LeaseLost, Refused
from hotfire.journal.journal import GOES_ON, Journal, parse
from hotfire.journal.lease import API, Lease, NotRenewed, Sight, leases_of
from hotfire.journal.store import fetch, owed
from hotfire.kube.client import ApiError, Cluster, NotFound, Object, Ref
from hotfire.kube.deletion import delete_while
from hotfire.kube.wait import interrupt, pause
from hotfire.rollout.fence import fence
from hotfire.rollout.patience import Passing, Patience, patiently
from hotfire.rollout.restore import Restore
from hotfire.rollout.settle import InProcess, finish
from hotfire.rollout.waiting import as_before, undeployed
from hotfire.words import State

Tell = Callable[[str], None]
BACKS = 2.0  # x rollback.within: how long one try to restore may take
AGAIN = 5  # x T between two tries to end a run that could not be proven; `hotfire abort` may take it over meanwhile


def lease_ref(home: str, journal: str) -> Ref:
    """The watchdog's own Lease: two watchdogs exclude each other by it, and a renewal is a heartbeat."""
    return Ref(API, "Lease", home, f"watchdog-{journal}")


class Watchdog:
    """One watchdog over one run, for as long as it holds its own Lease."""

    def __init__(self, journal: Journal, own: Lease, name: str, tell: Tell) -> None:
        self.journal, self.own, self.name, self.tell = journal, own, name, tell
        self.cluster, body = journal.cluster, journal.body
        self.run, self.length_s = body.run, body.lease_s
        self.sight = Sight(self.cluster, leases_of(journal), body.lease_s)
        self.settle_by = _deadline(self.cluster, body.settle_by)
        self.held: Lease | None = None  # the run's Leases, while it is WAITING
        self.deploy_by = float("inf")
        self.n = 0  # of the restoring that this process has begun, with all prepared before it made worthless
        self.lapses = own.lapses

    def watch(self) -> None:
        """Return when the run has ended, or is no longer there. Raises LeaseLost when another watchdog took over."""
        passing = Passing()
        while True:
            try:
                self.own.guard()
                if self.look():
                    return
                passing = Passing()
            except NotRenewed as late:  # the API server is away; nobody may have taken anything
                self.tell(f"{late}")
            except LeaseLost as lost:  # the journal was moved on meanwhile: look again, if this is still the watchdog
                self.tell(f"{lost}")
                _still(self.own)
            except ApiError as error:
                if not passing(error) and not isinstance(error, NotFound):
                    raise
                if isinstance(error, NotFound) and self.cluster.find(self.journal.ref) is None:
                    self.tell("the journal was deleted: there is nothing to restore from")
                    return
                self.tell(f"cannot look: {error.message}")
            pause(min(1.0, self.length_s / 6))

    def look(self) -> bool:
        """One look, and what follows from it; whether there is nothing left to watch."""
        self.lapses = self.own.lapses
        self.journal.reread()
        body = self.journal.body
        dead = self.sight.look()
        if body.run != self.run or (self.journal.ended and self._freed(dead)):
            self.tell(f"run {self.run} has ended: {body.state} {body.last_verdict}".rstrip())
            return True
        if self.journal.ended:
            return False  # it frees its Lease and removes this watchdog
        if body.state is State.WAITING:
            return self._wait()
        self._let_go()
        if dead:
            return self._end_for(f"the Lease of run {self.run} ran out")
        if self.journal.final:
            return False  # its run proves and cleans up
        if body.state is State.RESTORING:
            if body.by.startswith("watchdog/") and body.done != body.n:
                self._write_back(f"{body.by} was restoring" if body.n != self.n else "")
            return False
        if time.monotonic() > self.settle_by:
            return self._end_for(f"not settled by {body.settle_by}")
        if body.asked:
            self._write_back(body.why if body.why in GOES_ON else f"{body.asked}: {body.why}")
        return False

    def _freed(self, dead: bool) -> bool:
        """Whether nobody holds the Lease of a run that has ended; what it died over is freed for it."""
        if dead and self.sight.holders and (lease := Lease.inherit(self.sight, self.name, self.length_s)):
            lease.release()
            return True
        return not self.sight.holders

    def _wait(self) -> bool:
        """Hold what the run has left to its watchdog, until somebody goes on with it or its time is up."""
        body = self.journal.body
        if self.held is None:
            self.held = Lease.inherit(self.sight, self.name, self.length_s)
            self.deploy_by = _deadline(self.cluster, body.deploy_by)
            return False
        try:
            self.held.guard()
        except NotRenewed:
            raise
        except LeaseLost:
            self._let_go()
            raise
        if time.monotonic() > self.settle_by:
            return self._end_for(f"not settled by {body.settle_by}")
        if time.monotonic() > self.deploy_by and as_before(self.journal):
            return self._end_for(f"nobody had deployed by {body.deploy_by}")
        return False

    def _let_go(self) -> None:
        """Not given back: taken by whoever goes on, or, if that one is dead, found unchanged."""
        if self.held is not None:
            self.held.leave()
            self.held = None

    def _write_back(self, why: str) -> None:
        """Restore while the run watches: it proves, and moves the state on. why: begins it; without, this process goes on."""
        journal = self.journal
        left = partial(_left, time.monotonic() + max(20.0, BACKS * journal.body.within_s))
        if why:
            follows = journal.state is State.RESTORING
            journal.move(State.RESTORING, by=self.name, why=why, **undeployed(journal))
            self.tell(f"RESTORING ({journal.body.n}): {why}")
            if follows:  # a watchdog that died, or only sleeps: this one's own name may be of its pod's container before
                patiently(lambda: fence(journal, self._unbroken), left)
            self.n = journal.body.n
        back = Restore(journal, owed(journal), self._unbroken)
        InProcess().restore(back, left, Patience(self.tell))
        journal.write(done=journal.body.n)
        self.tell("everything is written back")

    def _unbroken(self) -> None:
        """A guard for restoring while the run lives. It may have taken the way back from a watchdog that slept, whose own Lease
        nobody has touched: after a lapse the journal is asked before anything is written."""
        try:
            self.own.guard()
        except NotRenewed as late:
            raise LeaseLost(str(late)) from None
        if self.own.lapses != self.lapses:
            raise LeaseLost("the Lease of the watch was not renewed for a while")

    def _end_for(self, why: str) -> bool:
        """Take the dead run's Leases over, restore or clean up, prove it, write the tombstone; whether that is the end."""
        lease = self.held or Lease.inherit(self.sight, self.name, self.length_s)
        if lease is None:
            self.tell(f"{why}, but somebody renewed it")
            return False

        def guard() -> None:
            self.own.guard()
            lease.guard()

        try:
            self.tell(f"taking over: {why}")
            self.journal.reread()
            ending = finish(self.journal, guard, self.tell, self.name, why)
        finally:
            lease.release()
            self.held = None
        for line in ending.unproven:
            self.tell(f"unproven: {line}")
        if not self.journal.ended:
            self.tell("UNSAFE: the end is not proven; trying again")
            pause(AGAIN * self.length_s)
        return self.journal.ended


def guard_run(cluster: Cluster, home: str, name: str, run: str, identity: str, tell: Tell) -> None:
    """Rehearse the way back, then hold the Lease and watch until the run has ended."""
    live = cluster.get(Ref("v1", "ConfigMap", home, name))
    journal = Journal(cluster, live, parse(live))
    if journal.body.run != run:
        tell(f"journal {name} is of run {journal.body.run}, not of {run}: nothing to watch")
        return
    ref, length_s = lease_ref(home, name), journal.body.lease_s
    cluster.timeout = min(cluster.timeout, max(1.0, length_s / 2))  # a call that hangs must not cost the watch
    if journal.state is State.OPEN:  # later it may not be put to the test any more: it is needed
        tried = Restore(journal, fetch(journal), lambda: None).rehearse()
        tell(f"a dry run of {tried} steps of the way back passed")
    own = Lease.take_named(cluster, {ref: f"the watch over {name}"}, identity, length_s, wait_s=float("inf"))
    try:
        tell(f"watching run {run} in {journal.body.namespace} as {identity}")
        Watchdog(journal, own, f"watchdog/{identity}", tell).watch()
        own.release()
        if (left := cluster.find(ref)) is not None:
            delete_while(cluster, left, partial(_nobody_elses, identity))
    finally:
        own.release()


def _still(own: Lease) -> None:
    """Raises LeaseLost when another watchdog holds the watch."""
    try:
        own.guard()
    except NotRenewed:
        return


def _nobody_elses(identity: str, lease: Object) -> bool:
    """The Lease is the journal's: another run's watchdog may hold it by now."""
    return (lease["spec"].get("holderIdentity") or identity) == identity


def _deadline(cluster: Cluster, settle_by: str) -> float:
    """On this process's monotonic clock; the moment itself is by the API server's."""
    if not settle_by:
        return float("inf")
    return time.monotonic() + (datetime.fromisoformat(settle_by) - cluster.server_time()).total_seconds()


def _left(deadline: float) -> float:
    return deadline - time.monotonic()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the run has ended; 1: start me again."""
    parser = argparse.ArgumentParser(prog="hotfire.rollout.watchdog", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", required=True, help="the namespace of journal and Leases")
    parser.add_argument("--journal", required=True, help="the journal's ConfigMap")
    parser.add_argument("--run", required=True, help="the run to watch")
    parser.add_argument("--kubeconfig", help="outside a cluster")
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: interrupt())
    identity, passing = os.environ.get("POD_NAME") or f"process-{os.getpid()}", Passing()
    try:
        while (error := _watched(given, identity)) is not None:  # as long as the Job may live
            _tell(f"{error}")
            if not passing(error):
                return 1
            pause(1.0)
    except (BadInput, Refused, Interrupted) as error:
        _tell(f"{error}")
        return 1
    except HotfireError as error:
        _tell(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _watched(given: argparse.Namespace, identity: str) -> ApiError | None:
    """Watch to the end; what the API server had against it, which may pass."""
    try:
        guard_run(Cluster.connect(given.kubeconfig), given.home, given.journal, given.run, identity, _tell)
    except ApiError as error:
        return error
    except BadInput as bad:
        if isinstance(bad.__cause__, ApiError):  # nobody answers yet: the kubelet would start it again later and later
            return bad.__cause__
        raise
    return None


if __name__ == "__main__":
    raise SystemExit(main())

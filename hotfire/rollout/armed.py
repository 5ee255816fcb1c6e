"""The way back of an armed run: the watchdog writes, so that the path used in a disaster is the one used every day, and the
run is the witness that proves. Whoever dies meanwhile, the other goes on."""

import time
from collections.abc import Callable, Mapping

from hotfire.errors import HarnessError, LeaseLost
from hotfire.journal.journal import Journal
from hotfire.journal.lease import NotRenewed, Sight
from hotfire.kube.client import ApiError
from hotfire.kube.wait import pause
from hotfire.rollout.fence import fence
from hotfire.rollout.patience import Passing, Waits, patiently
from hotfire.rollout.proof import Finding
from hotfire.rollout.restore import Restore
from hotfire.rollout.settle import InProcess, Settling, written
from hotfire.rollout.watchdog import lease_ref
from hotfire.words import State

TAKEN_S = 5.0  # seconds for the watchdog to take up what it was asked, then the run does it itself


class ByWatchdog:
    """me: how the run signs the journal."""

    def __init__(self, me: str) -> None:
        self.me, self.itself = me, InProcess()

    def begin(self, settling: Settling, why: str, left: Callable[[], float]) -> None:
        """Ask, unless it was asked or acts already; nobody there, try it as an unarmed run does."""
        journal = settling.journal
        _still_mine(settling.guard)
        if not _restoring(journal):
            if not journal.body.asked:
                patiently(lambda: ask(journal, "ROLL_BACK", why), left)
            if not _taken_up(journal, self.me):
                try:
                    self.itself.begin(settling, why, left)
                    return
                except LeaseLost:  # the watchdog was faster after all
                    journal.reread()
                    if not _restoring(journal):
                        raise
        settling.say_state()

    def restore(self, back: Restore, left: Callable[[], float], waits: Waits) -> None:
        """Watch until the watchdog has written everything. It died, nobody follows: take over."""
        journal = back.journal
        watched = _restoring(journal) and journal.body.by != self.me
        sight = Sight(journal.cluster, [lease_ref(journal.ref.namespace, journal.ref.name)], journal.body.lease_s)
        passing = Passing()
        while journal.state is State.RESTORING and journal.body.by != self.me:
            if journal.body.done == journal.body.n:
                return
            if left() <= 0:
                raise HarnessError(f"the way back is not finished: {journal.body.by} has not said that all is written")
            waits(f"{journal.body.by} has not said that all is written")
            pause(0.2)
            try:
                dead = sight.look()
                journal.reread()
                if dead and journal.state is State.RESTORING and journal.body.done != journal.body.n:
                    back.guard()
                    self._succeed(journal)
                passing = Passing()
            except (ApiError, NotRenewed) as error:
                if not passing(error):
                    raise
        if journal.state is State.RESTORED:
            raise LeaseLost("the watchdog took this run for dead and ended it")
        if watched:  # it may only sleep
            patiently(lambda: fence(journal, back.guard), left)
        self.itself.restore(back, left, waits)

    def _succeed(self, journal: Journal) -> None:
        """Take the way back from a watchdog that is dead; its heir, or its own last word, may be faster."""
        try:
            journal.move(State.RESTORING, by=self.me, why=f"{journal.body.by} is dead")
        except LeaseLost:
            journal.reread()

    def tombstone(self, journal: Journal, left: Callable[[], float]) -> Mapping[str, Finding]:
        """What the watchdog that took over has proven, once the run's journal is a tombstone."""
        run, passing = journal.body.run, Passing()
        while left() > 0:
            try:
                journal.reread()
                passing = Passing()
            except ApiError as error:
                if not passing(error):
                    return {}
            if journal.body.run != run:
                return {}
            if journal.ended:
                return written(journal)
            pause(0.3)
        return {}


def ask(journal: Journal, what: str, why: str) -> None:
    """One write: the watchdog restores from now on, whatever becomes of the run. It acts already: nothing to ask."""
    try:
        journal.write(asked=what, why=why)
    except LeaseLost:
        journal.reread()
        if not _restoring(journal):
            raise


def _restoring(journal: Journal) -> bool:
    return journal.state is State.RESTORING


def _taken_up(journal: Journal, me: str) -> bool:
    deadline, passing = time.monotonic() + TAKEN_S, Passing()
    while time.monotonic() < deadline:
        try:
            journal.reread()
        except ApiError as error:
            if not passing(error):
                raise
        if _restoring(journal) and journal.body.by != me:
            return True
        pause(0.1)
    return False


def _still_mine(guard: Callable[[], None]) -> None:
    """Raises LeaseLost when another holds the Lease; that it could not be renewed for a while is no reason not to ask."""
    try:
        guard()
    except NotRenewed:
        return

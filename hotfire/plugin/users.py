"""Users' own requests, as the candidate's pods or the gateway before them count them, from the moment it serves until the
commit point.

A thread of its own reads each Ready pod's counters through the API server, EVERY_S. They hold hotfire's requests, too, and
those are left in: they are the same candidate's, sound ones only thin out what users see, and what it asks wrongly on purpose
gets a 4xx, which nobody counts as failed. So the guard may be later for them, never wrong. Set aside is what is counted while
a declared fault is under way, and what a gateway counts while a pod of the baseline is left. Only as evidence hotfire's
requests are taken off: without enough of users there is no PASS. By a pipeline `settle` reads once more: what was counted
since `verify` is the difference to the last readings, which the record holds.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING

from hotfire.check import Findings
from hotfire.errors import Unjudged
from hotfire.gates.blame import Facts, attribute
from hotfire.gates.statistics import LEAST_FAIL
from hotfire.gates.users import Guard, unproven, users_of
from hotfire.kube.client import ApiError, Object
from hotfire.kube.pods import stamp
from hotfire.kube.wait import halt, pause
from hotfire.plugin.nouns.pods import CandidatePods
from hotfire.record.events import Counted, Entry, Judged, Told
from hotfire.rollout.metrics import Meter
from hotfire.runtimes import contract_of
from hotfire.runtimes.client import RuntimeClient
from hotfire.runtimes.guarded import guards, uncounted
from hotfire.scenario.serves import Serves
from hotfire.words import Outcome, Reason, State

if TYPE_CHECKING:
    from hotfire.load.run import LoadRun
    from hotfire.plugin.run import Run

EVERY_S = 0.75  # from one reading to the next: with it the journal is written within a second of the request that burns
LISTED_S = 5.0  # pods are listed again after this long, and whenever one could not be read
UNREAD_S = 15.0  # without a reading after which nobody knows what users saw meanwhile
SUITE = "test_88_users"
AT_ONCE = 8  # pods read side by side
Pair = tuple[float, float]


class Guarded:
    """One API. intervals: as a Counted event holds them; unread_s: the longest time without a whole reading; whole: whether the
    last one was; ours: requests of hotfire's own among what counts; passed, failed: its check was answered so."""

    def __init__(self, run: "Run", serves: Serves) -> None:
        self.run, self.serves = run, serves
        self.parts, self.meter = guards(serves, run.scenario), Meter(run.cluster, run.namespace, serves)
        self.guard = Guard(self.parts)
        self.intervals: list[tuple[float, ...]] = []
        self.burnt: int | None = None
        self.why = ""
        self.told = [False] * len(self.parts)
        self.blind: list[str | None] = [None] * len(self.parts)  # why a part can never be late; None until its bounds were seen
        self.began, self.read_at = 0.0, time.time()
        self.unread_s, self.ours, self.passed, self.failed, self.whole = 0.0, 0, False, False, False
        self._sent = 0  # requests of hotfire's own at the last reading
        self._seen = False  # a Ready pod of it has been there
        self._last: dict[str, list[Pair]] = {}  # pod's UID -> (requests, bad) of each part
        self._owed: set[str] = set()  # pods that another process of this run read last, not seen again yet
        self._pods: Sequence[Object] = ()
        self._alone = True  # whether the candidate is all that is counted
        self._listed = 0.0

    @property
    def key(self) -> str:
        return f"rollout.users[{self.serves.name}]"

    def read(self, at: float, *, counts: bool) -> bool:
        """One reading; whether it burns now. at: time.time() just before; counts: outside of any declared fault."""
        self.began = self.began or at
        if counts:
            self.unread_s = max(self.unread_s, at - self.read_at)
        pages = self._pages(at)
        self.whole = pages is not None and None not in pages and (bool(pages) or not self._seen)
        if self.whole:
            self.read_at = at
        else:
            self._listed = 0.0
        self._seen = self._seen or bool(pages)
        if not self.run.users.serves:  # meanwhile: these may be the baseline's pods
            return False
        self._sent, before = self._asked(), self._sent
        self.ours += (self._sent - before) * counts
        grown = [self._grown(pod, text) for pod, text in zip(self._pods, pages or (), strict=False) if text is not None]
        sums = [int(sum(column)) for column in zip(*grown, strict=True)] if grown else [0] * 2 * len(self.parts)
        if not any(sums):
            if not self.whole:
                return False
            if self.intervals and not any(self.intervals[-1][2:]):
                self.intervals.pop()
        self.intervals.append((round(at - self.began, 3), int(counts), *sums))
        if self.burnt is None and (said := self.guard.add(self.intervals[-1])):
            self.burnt, self.why = len(self.intervals) - 1, said
            return True
        return False

    def skip(self, at: float) -> None:
        """No reading is expected now: the candidate is not what is deployed."""
        self.read_at, self._seen, self._sent = at, False, self._asked()

    def go_on(self, event: Counted, at: str, *, passed: bool) -> None:
        """With what another process of this run had read by then."""
        self.intervals, self.burnt, self.ours, self.passed = list(event.intervals), event.burnt, event.ours, passed
        self.why = next((said for said in map(self.guard.add, event.intervals) if said), "")
        self.began = datetime.fromisoformat(at).timestamp() - (self.intervals[-1][0] if self.intervals else 0.0)
        self._seen, self._owed = True, set(event.last)
        self.told = [True] * len(self.parts)
        self._last = {uid: list(zip(row[::2], row[1::2], strict=True)) for uid, row in event.last.items()}

    def _pages(self, at: float) -> list[str | None] | None:
        """The metrics of each Ready pod, None for one that does not answer; None for all where the API server does not."""
        if at - self._listed > LISTED_S:
            try:
                self._pods, self._alone = self.meter.pods()
            except ApiError:
                return None
            self._listed = at if self._alone else 0.0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._page, self._pods))

    def _page(self, pod: Object) -> str | None:
        try:
            return self.meter.page(pod)
        except ApiError:
            return None

    def _grown(self, pod: Object, text: str) -> list[float]:
        """(requests, bad) of each part, side by side, since the last reading. A pod that this run has made counts from 0, as
        does one whose counters began anew; of an older one the first reading only says from where."""
        uid, made = pod["metadata"]["uid"], stamp(pod["metadata"]["creationTimestamp"])
        counts = self.meter.counts
        now = [counts.read(text, part["kind"], part["limit_s"]) if counts else None for part in self.parts]
        self.told = [before or found is not None for before, found in zip(self.told, now, strict=True)]
        for i, part in enumerate(self.parts):
            if counts and self.blind[i] is None:
                self.blind[i] = counts.blind(text, part["kind"], part["limit_s"])
        if not self._alone:
            self._last[uid] = [found or (0.0, 0.0) for found in now]
        zero = [(0.0, 0.0)] * len(now)
        new = made >= (self.run.users.watched if self.serves.counted_by else self.run.users.since)
        first = zero if new else [found or (0.0, 0.0) for found in now]
        before = self._last.get(uid, first)
        if any(found and found[0] < was[0] for found, was in zip(now, before, strict=True)):
            before = zero
        else:
            self._owed.discard(uid)
        self._last[uid] = after = [found or was for found, was in zip(now, before, strict=True)]
        return [max(b - a, 0.0) for was, found in zip(before, after, strict=True) for a, b in zip(was, found, strict=True)]

    def findings(self) -> Findings:
        """Why it burnt, and whose failure that is."""
        pods = CandidatePods(self.run.cluster, self.run.namespace, self.run.scenario)
        blame, rule = attribute(Facts(users=self.why, platform=tuple(pods.disturbed(self.began))))
        return Findings([rule], self.why, blame, list(self.intervals[self.burnt or 0]), self.parts)

    def event(self) -> Counted:
        blind = [f"{part['kind']} of {part['slo']}: {why}" for part, why in zip(self.parts, self.blind, strict=True) if why]
        here = [pod["metadata"]["uid"] for pod in self._pods]
        if self._owed:
            blind.append(f"what pods that have gone or begun anew ({len(self._owed)}) had served since `verify`")
        return Counted(
            check=self.key, by=self.meter.who, ours=self.ours, parts=tuple(self.parts), intervals=tuple(self.intervals),
            burnt=self.burnt, uncounted=(*uncounted(self.serves, self.run.scenario), *blind),
            last={uid: tuple(value for pair in self._last[uid] for value in pair) for uid in here if uid in self._last},
        )  # fmt: skip

    def check(self, *, at_the_end: bool = False) -> None:
        """Raises Unjudged where what was counted is no proof: it was not told, not read, or too little of it was users'."""
        untold = [part["kind"] for part, told in zip(self.parts, self.told, strict=True) if not told]
        if untold:
            contract = contract_of(self.serves.runtime)
            engine = contract.metrics_need and not self.serves.counted_by
            need = f"; {contract.title} needs {contract.metrics_need}" if engine else ""
            raise Unjudged(f"{self.meter.who} never told a counter of {', '.join(untold)}{need}", reason=Reason.NO_DATA)
        if all(self.blind):
            raise Unjudged(f"{self.meter.who} cannot tell what is late: {self.blind[0]}", reason=Reason.NO_DATA)
        if self.unread_s > UNREAD_S or (at_the_end and not self.whole):
            long = "at the end" if self.unread_s <= UNREAD_S else f"for {self.unread_s:.0f} s"
            silent = f"the counters of {self.meter.who} could not be read {long}, or no pod was Ready"
            raise Unjudged(silent, reason=Reason.NO_DATA)
        if why := unproven(self.parts, self.intervals, self.ours):
            raise Unjudged(why[1], reason=why[0])

    def wanting_s(self) -> float:
        """How long it takes, at their rate so far, until enough of users' requests are there; inf while none is."""
        users = users_of(self.intervals, self.ours)
        first = next((one[0] for one in self.intervals if one[1]), 0.0)
        lack = max(LEAST_FAIL - users, 0)
        return lack * (time.time() - self.began - first) / users if users else math.inf

    def _asked(self) -> int:
        """Requests of hotfire's own so far; a gateway sees none of those that go past it."""
        past = self.serves.counted_by is not None and self.run.scenario.reach.via not in ("ingress", "url")
        return 0 if past else self.run.users.ours(self.serves.workload)


class UsersWatch:
    """All of them. set_aside: a declared fault is under way; asked: workload -> answers asked for through the API server."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.each = [Guarded(run, serves) for serves in run.scenario.guarded if guards(serves, run.scenario)]
        self.set_aside = False
        self.watched = datetime.max.replace(tzinfo=UTC)  # since when this process reads, by the API server's clock
        self.asked: Counter[str] = Counter()
        self.loads: list[tuple[str, LoadRun]] = []
        self.clients: list[tuple[str, RuntimeClient]] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="users", daemon=True)

    def begin(self) -> None:
        """Nothing where nobody is guarded."""
        if self.each:
            self.watched = self.run.cluster.server_time()
            self._thread.start()

    def go_on(self, entries: Sequence[Entry]) -> None:
        """With what `verify` has counted, to be read once more at the end."""
        if self.each:
            self.watched = self.run.cluster.server_time()
        told = {one.event.check: (one.event, one.at) for one in entries if isinstance(one.event, Counted)}
        judged = {one.event.check: one.event.outcome for one in entries if isinstance(one.event, Judged)}
        for one in self.each:
            if one.key in told:
                one.go_on(*told[one.key], passed=judged.get(one.key) is Outcome.PASS)

    def end(self) -> None:
        """Read once more, and then no more. What came after its check was asked is answered here."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        until = time.monotonic() + UNREAD_S
        self.look()
        while self.serves and any(one.passed and not one.whole for one in self.each) and time.monotonic() < until:
            pause(EVERY_S)
            self.look()
        halt(None)
        for one in self.each:
            late = one.burnt is not None and not one.failed
            if late or (one.passed and not self.run.halted):
                self.run.emit(one.event())
                self._late(one)

    def _late(self, one: Guarded) -> None:
        """What came after its check was asked, or instead of it."""
        if one.burnt is not None:
            if not self.run.halted:
                self._hand_over(one, one.began + one.intervals[one.burnt][0])
            self.run.emit(Judged(check=one.key, outcome=Outcome.FAIL, blame=one.findings().blame, message=one.why))
            return
        try:
            one.check(at_the_end=True)
        except Unjudged as not_told:
            found = {"reason": not_told.reason, "blame": not_told.blame, "message": not_told.message}
            self.run.emit(Judged(check=one.key, outcome=Outcome.INVALID, **found))

    def fault(self, begins: bool, traffic: "LoadRun", workload: str, rate: float) -> None:
        """A declared fault begins or is over: what is counted up to now is of the time before. rate: of what hotfire itself
        sends to the workload meanwhile; what it says of that is a second old at most, and is taken for that much more."""
        with suppress(Unjudged):  # a carrier that died is told of by the load's own end
            traffic.poll()
        self.look()
        self.set_aside = begins
        for one in self.each:
            one.ours += math.ceil(rate) * (begins and one.serves.workload == workload)

    def ours(self, workload: str) -> int:
        """Requests that hotfire itself has sent to its pods."""
        sent = [load.sent for name, load in self.loads if name == workload]
        return self.asked[workload] + sum(sent) + sum(client.posted for name, client in self.clients if name == workload)

    def look(self) -> None:
        """One reading of all, unless the candidate is not what is deployed."""
        with self._lock:
            for one in self.each:
                at = time.time()
                if not self.serves:
                    one.skip(at)
                elif self.set_aside:
                    one.read_at = at  # pods may be away
                if self.serves and one.read(at, counts=not self.set_aside):
                    halt(partial(self._hand_over, one, at))

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.look()

    @cached_property
    def since(self) -> datetime:
        """When the run began, by the API server's clock: what serves and was made later is of its candidate."""
        return datetime.fromisoformat(self.run.opened.since or self.run.recorder.entries[0].at)

    @property
    def serves(self) -> bool:
        """Whether the candidate is what is deployed, and nobody was asked to take it back."""
        journal = self.run.rollout.journal
        return journal.state is State.TESTING and not journal.body.asked and not self.run.halted

    def _hand_over(self, one: Guarded, at: float) -> str:
        """The way back begins at once, whatever else is being asked."""
        run = self.run
        run.halted, run.halted_in = one.why, SUITE
        run.hand_over(one.why)
        run.emit(Told(line=f"{one.why}: handed over {time.time() - at:.2f} s after the reading that showed it"))
        return one.why

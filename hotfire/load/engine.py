"""The loop that sends the plan and reads the answers: one epoll, one greenlet, no greenlet per request.

Open loop: a request is sent when it is due, whatever became of those before it. One that is due while `slots` are taken
is a `backlog` sample. The epoll hangs in gevent's hub as a descriptor, so locust goes on beside it; the sockets are the
plain ones of `_socket`, which gevent does not patch: a token costs one recvmsg and no switch of greenlets.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hotfire.load.connection import READ_SIZE, TIMESPEC, Address, Connection, Dialer, Lost
from hotfire.load.dialects import DIALECTS
from hotfire.load.plan import Item, Plan
from hotfire.load.polling import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Timer, epoll
from hotfire.load.samples import BACKLOG, CANCELLED, Writer, pack_gaps
from hotfire.load.selfcheck import ClientCheck
from hotfire.load.streams import Answer, BadAnswer
from hotfire.load.target import Target
from hotfire.record.redactor import Redactor

SWEEP = 0.05  # seconds between two looks for what took too long
IDLE = 1.5  # an idle connection is not trusted for longer: engines close theirs after 2 to 5 s
LINGER = 0.5  # after the end marker, for the end of the framing that lets a connection be used again
PACE, CROWD = 2_000, 16  # with the kernel's stamps, reads of a crowd are taken together every 2 ms: nothing is lost by it
BATCH = 64  # reads between two looks at what is due
TURN = 2_000  # microseconds of reading after which what else runs in this process has its turn
MOST_SAID = 200  # characters of the target's own words in a row
QUIET_US = 100_000  # silences from here on are kept
READ = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR
READ_ONCE = READ | EPOLLET  # told once per arrival: what a read leaves there must be asked for again


@dataclass(slots=True, eq=False)
class Flight:
    """One request on its way."""

    item: Item
    due: int
    took: int
    answer: Answer
    connection: Connection | None = None
    sent: int | None = None
    connected: int | None = None
    reused: bool = False
    lingers_to: int = 0


@dataclass
class Counts:
    """What a tick tells."""

    sent: int = 0
    done: int = 0
    failed: int = 0
    backlog: int = 0
    tokens: int = 0
    ttft: list[int] = field(default_factory=list)  # of the last second, us


class Engine:
    """Sends `plan` to `target`. `say` gets the messages for the parent; `on_end` each row with its item (locust's stats)."""

    def __init__(
        self,
        plan: Plan,
        target: Target,
        headers: dict[str, str],
        writer: Writer,
        say: Callable[[dict[str, Any]], None],
        on_end: Callable[[int, str, int], None],
        cpu: int | None = None,
        part: tuple[int, int] = (0, 1),
        hidden: Mapping[str, str] | None = None,
    ) -> None:
        """part: (k, n) sends each n-th request of the plan, from the k-th; hidden: forms of secrets and what is written for
        them where the target says them."""
        self.plan, self.target, self.writer, self.say, self.on_end = plan, target, writer, say, on_end
        self.dialect = DIALECTS[target.api]
        self.dialer, self.places = Dialer(target), target.places
        self.check = ClientCheck(target.scale_s, cpu, self.dialer.kernel_stamps)
        self.counts = Counts()
        self.epoll, self.timer = epoll(), Timer()
        self.epoll.register(self.timer.fd, EPOLLIN)
        self.table: dict[int, Connection] = {}
        self.idle: list[Connection] = []
        self.flights: dict[int, Flight] = {}  # those on their way, by their index
        self._items = filter(partial(_mine, part), plan.items())
        self._next: Item | None = None
        self._prompts = plan.prompts()
        self._head = (
            f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nContent-Type: application/json\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            + "Connection: close\r\n" * (not target.max_age_s)
        )  # of every request
        words = (word for value in headers.values() for word in (value, value.split()[-1] if value else ""))
        own = {word: "***" for word in words if len(word) > 3}  # the token alone, too: "Bearer" is no secret
        self._redactor = Redactor.of({**own, **(hidden or {})})
        lead = plan.header.warm_up  # requests of each look that have not ended:
        self._left = [_count(part, lead + size) - _count(part, lead) for size in plan.header.looks]
        self._look = 0  # looks that have ended
        self._granted = 0  # the look up to which requests may be sent
        self._waits = plan.header.waits
        self._cap = self._capped()
        self._finished = False  # nothing more is sent
        self._drain_to: int | None = None
        self._spaced_due = self._shift = 0
        self._quiet_since = self._still = 0  # the last byte; the last time at which none was there
        self._quiets: list[tuple[int, int]] = []
        self._behind_since: int | None = None  # since when reading has been behind
        self._excused_to = 0  # until when the target's silence is why
        self.t0 = self._ticked = self._swept = 0
        self._early = False  # t0 is still to come
        self.asked = False  # the parent has said something
        self.paced = False  # wait for the timer alone, not for what comes in

    # --- what the parent may ask

    def go(self, look: int) -> None:
        """Requests up to this look (from 1) may be sent."""
        if look - 1 > self._granted:
            if self._next is not None and self._next.index >= self._cap:  # it had to stop: what follows moves with it
                self._shift = max(self._shift, self._now() - self._next.due_us)
            self._granted = look - 1
            self._cap = self._capped()
            self._spaced_due = max(self._spaced_due, self._now())

    def stop(self, drain_s: float) -> None:
        """Send nothing more; after drain_s what is still open is cancelled, and said so."""
        self._finished = True
        self._drain_to = self._now() + round(drain_s * 1e6)

    # --- the loop

    def begin(self, t0: int = 0) -> None:
        """t0 is now, or as given by CLOCK_MONOTONIC in nanoseconds."""
        self.t0 = t0 or time.monotonic_ns()
        self._early = t0 > time.monotonic_ns()
        self.check.restart()
        self.dialer.anchor()
        self._next = next(self._items, None)
        self.say({"started": self.t0, "plan": self.plan.digest, "stamps": "kernel" if self.dialer.kernel_stamps else "user"})

    def turn(self) -> bool:
        """All that can be done now, without waiting; False when the load is over."""
        self.asked, began = False, self._now()
        if self._early and began >= 0:
            self._early = False
            self.check.restart()
        behind = more = True
        while more:
            self.dialer.anchor()
            self._issue()  # before reading, and between: what is due is not kept waiting by what came
            polled = self._now()
            events = self.epoll.poll(0, BATCH)
            if self._take(events):  # a silence is certain up to the last time nothing was there to be read
                silent = self._still - self._quiet_since
                self._excused_to = max(self._excused_to, polled + silent)
                if silent > QUIET_US:
                    self._quiets.append((self._quiet_since, silent))
                self._quiet_since = polled
            self._still = polled
            behind = len(events) == BATCH
            more = behind and polled - began < TURN
        if behind or self._behind_since is not None:
            since = began if self._behind_since is None else self._behind_since
            self.check.reads(since, self._now(), self._excused_to)
            self._behind_since = since if behind else None
        if self.dialer.newest and not behind:  # one drain is one sample: what a target's flood makes wait is its own doing
            self.check.reading.add((time.time_ns() - self.dialer.newest) / 1e3)
            self.dialer.newest = 0
        self._issue()
        now = self._now()
        if now - self._swept >= SWEEP * 1e6:
            self._sweep(now)
        if self._over():
            self._end()
            return False
        wake = min(self._due(), self._swept + round(SWEEP * 1e6))
        self.paced = len(self.flights) > CROWD and self.dialer.kernel_stamps and not behind
        self.timer.set(self.t0 + 1000 * (min(wake, now + PACE) if self.paced else wake))
        return True

    def _now(self) -> int:
        return (time.monotonic_ns() - self.t0) // 1000

    def _capped(self) -> int:
        """Index of the first request that may not be sent yet. An open loop runs on into the next look while this one is
        judged: a pause would empty the target's queue."""
        ahead = self._granted if self._waits else self._granted + 1
        looks = self.plan.header.looks
        return self.plan.header.warm_up + looks[min(ahead, len(looks) - 1)]

    def _due(self) -> int:
        """When the next request is due, far off when none is."""
        if self._next is None or self._finished or self._next.index >= self._cap:
            return 1 << 60
        if self._waits:
            return 1 << 60 if len(self.flights) >= (self.plan.header.closed or 1) else self._spaced_due
        return self._next.due_us + self._shift

    def _issue(self) -> None:
        while (due := self._due()) <= (now := self._now()):
            item = self._next
            if item is None:
                return
            self._next = next(self._items, None)
            self._spaced_due = due + self.plan.header.period_us
            flight = Flight(item, due, now, Answer(self.dialect))
            if len(self.flights) >= self.target.slots:
                self._record(flight, now, BACKLOG, "no slot was free")
                continue
            self.check.dispatch.add(now - due)
            self._send(flight)

    def _send(self, flight: Flight) -> None:
        if not self.flights:
            self._quiet_since = self._still = flight.took
        self.counts.sent += 1
        self.flights[flight.item.index] = flight
        to = flight.item.index % len(self.places)
        self._carry(flight, to, self._idle_one(flight.took, to))

    def _carry(self, flight: Flight, to: int, connection: Connection | None, rest: list[Address] | None = None) -> None:
        """On this connection, else on a new one, to the `rest` of the addresses of its place where some have refused."""
        try:
            if connection is None:
                connection = self.dialer.dial(flight.took, to, rest)
                self.table[connection.fd] = connection
                self.epoll.register(connection.fd, EPOLLOUT)
            else:
                flight.reused = True
            connection.flight, flight.connection = flight, connection
            connection.queue(self._request(flight.item))
            if flight.reused:
                flight.sent = self._now()
                self._push(connection)
        except Lost as lost:
            self._lost(flight, lost)

    def _idle_one(self, now: int, to: int) -> Connection | None:
        for i in range(len(self.idle) - 1, -1, -1):
            if self.idle[i].to != to:
                continue
            connection = self.idle.pop(i)
            young = now - connection.born < self.target.max_age_s * 1e6
            if young and now - connection.used < IDLE * 1e6 and connection.alive():
                return connection
            self._drop(connection)
        return None

    def _request(self, item: Item) -> bytes:
        text = self.plan.text(self._prompts, item)
        body = json.dumps(self.dialect.body(self.target.model, text, item.max_tokens)).encode()
        head = f"{self._head}Content-Length: {len(body)}\r\nX-Request-Id: {self._rid(item)}\r\n\r\n"
        return head.encode() + body

    def _rid(self, item: Item) -> str:
        return f"{self.plan.digest[:8]}-{item.index}"

    # --- sockets

    def _writable(self, connection: Connection) -> None:
        flight = connection.flight
        if flight is None:
            self._drop(connection)
            return
        try:
            if not connection.open:
                if not connection.opened():
                    self.epoll.modify(connection.fd, connection.wants)  # TLS says what it waits for
                    return
                flight.connected = self._now()
            if flight.sent is None:
                flight.sent = self._now()
            self._push(connection)
        except Lost as lost:
            if connection.open or not connection.rest:
                self._lost(flight, lost)
                return
            flight.connection = None
            self._drop(connection)
            self._carry(flight, connection.to, None, connection.rest)  # it is the same request, due when it was

    def _lost(self, flight: Flight, lost: Lost) -> None:
        """It broke while it was written to: what the target had said by then, a refusal as a rule, is there to be read."""
        answer, connection, error, note = flight.answer, flight.connection, lost.error, str(lost)
        try:
            while not error and connection is not None and connection.open:
                data, stamp = connection.read()
                if not data:
                    break
                answer.feed(data, (stamp - self.t0) // 1000)
        except Lost as again:
            note = str(again)
        except BadAnswer as bad:
            error, note = "bad_answer", str(bad)
        error = error or answer.closed()
        answer.reusable = False  # half a request is on its way there
        self._finish(flight, self._now(), error, answer.note() or note)

    def _push(self, connection: Connection) -> None:
        wanted = EPOLLOUT if connection.push() else READ_ONCE if connection.stamped else READ
        if wanted != connection.registered:
            connection.registered = wanted
            self.epoll.modify(connection.fd, wanted)

    def _take(self, events: list[tuple[int, int]]) -> bool:
        """Read whatever is there; whether any byte came. This is the path of every token: it is written flat."""
        table, dialer, heard = self.table, self.dialer, False
        shift = dialer.offset + self.t0
        for fd, mask in events:
            connection = table.get(fd)
            flight = connection.flight if connection is not None else None
            if connection is None:
                self._other(fd)
            elif flight is None:
                self._drop(connection)  # an idle connection has nothing to say but its end
            elif mask & EPOLLOUT or not connection.open:
                self._writable(connection)
            else:
                try:
                    if connection.stamped:
                        data, extra, _, _ = connection.receive(READ_SIZE, 64)
                        seconds, nanos = TIMESPEC(extra[0][2]) if extra else divmod(time.time_ns(), 1_000_000_000)
                        dialer.newest = stamp = seconds * 1_000_000_000 + nanos
                        at = (stamp - shift) // 1000
                        if mask != EPOLLIN or len(data) == READ_SIZE:
                            self.epoll.modify(fd, READ_ONCE)
                    else:
                        data, stamp = connection.read()
                        at = (stamp - self.t0) // 1000
                    if data:
                        heard = True
                        if flight.answer.feed(data, at):
                            self._whole(flight, at)
                    elif data is not None:
                        self._finish(flight, at, flight.answer.closed(), flight.answer.note())
                except BlockingIOError:
                    continue
                except Lost as error:
                    answer = flight.answer
                    self._finish(flight, self._now(), error.error or answer.closed(), answer.note() or str(error))
                except OSError as error:
                    answer = flight.answer
                    self._finish(flight, self._now(), answer.closed(), answer.note() or str(error.strerror))
                except BadAnswer as error:
                    self._finish(flight, self._now(), "bad_answer", str(error))
        return heard

    def _other(self, fd: int) -> None:
        if fd == self.timer.fd:
            self.timer.clear()
        elif fd == 0:
            self.asked = True

    def _whole(self, flight: Flight, at: int) -> None:
        answer = flight.answer
        if answer.complete:
            self._finish(flight, at, answer.verdict(), answer.note())
        elif not flight.lingers_to:
            flight.lingers_to = at + round(LINGER * 1e6)

    def _drop(self, connection: Connection) -> None:
        self.table.pop(connection.fd, None)
        if connection in self.idle:
            self.idle.remove(connection)
        connection.close()

    # --- ends

    def _finish(self, flight: Flight, at: int, error: str, note: str) -> None:
        if self.flights.pop(flight.item.index, None) is None:  # it has ended
            return
        connection, answer = flight.connection, flight.answer
        error = error or answer.verdict()  # no success but that of a whole answer, whoever says so
        if connection is not None:
            connection.flight, connection.used = None, at
            flight.connection = None
            if answer.complete and answer.reusable and self.target.max_age_s:
                self.idle.append(connection)
            else:
                self._drop(connection)
        if not self.flights and self._still - self._quiet_since > QUIET_US:
            self._quiets.append((self._quiet_since, self._still - self._quiet_since))
            self._quiet_since = self._still
        end = answer.done_at if not error and answer.done_at >= 0 else at
        self._record(flight, end, error, note)
        if self._waits:
            self._spaced_due = max(self._spaced_due, self._now())

    def _record(self, flight: Flight, end: int, error: str, note: str) -> None:
        item, answer = flight.item, flight.answer
        counts, gaps, stamps = self.counts, answer.gaps(), answer.stamps
        counts.done += 1
        counts.tokens += answer.tokens
        counts.failed += bool(error)
        counts.backlog += error == BACKLOG
        first, last = (stamps[0], stamps[-1]) if stamps else (None, None)
        if first is not None:
            counts.ttft.append(first - flight.due)
        number = item.index - self.plan.header.warm_up
        ranked = sorted(gaps)
        self.writer.add((
            number, int(number < 0), flight.due, flight.took, flight.sent, flight.connected,
            *(None if at < 0 else at for at in (answer.head_at, answer.first_byte)), first, last,
            end, answer.tokens, answer.usage, answer.status, error, self._said(answer.finish),
            self.places[item.index % len(self.places)][0] or self._said(answer.headers.get(self.target.served_by, "")),
            self._rid(item), int(flight.reused), gaps.count(0),
            ranked[-1] if ranked else None, ranked[-(-99 * len(ranked) // 100) - 1] if ranked else None,
            pack_gaps(gaps), self._said(note),
        ))  # fmt: skip
        self.on_end(end - flight.due, error, answer.tokens)
        if number >= 0:
            for look, size in enumerate(self.plan.header.looks):
                self._left[look] -= number < size

    def _said(self, text: str) -> str:
        """What the target said, for the record: without the key it was sent and other secrets, as UTF-8, and short."""
        return self._redactor.text(text).encode("utf-8", "replace").decode()[:MOST_SAID]

    def _sweep(self, now: int) -> None:
        self._swept = now
        limit = round(self.target.timeout_s * 1e6)
        for flight in list(self.flights.values()):
            if flight.lingers_to:  # its end is here, that of its framing is not
                if now > flight.lingers_to:
                    self._finish(flight, now, flight.answer.verdict(), flight.answer.note())
            elif now - flight.took > limit:
                self._finish(flight, now, self._timeout(flight), flight.answer.note())
        for connection in [one for one in self.idle if now - one.used > IDLE * 1e6]:
            self._drop(connection)
        self._quiet()
        self.writer.silences(self._quiets)
        self._quiets = []
        self.writer.flush()
        while self._look < len(self._left) and self._left[self._look] == 0:
            self._look += 1
            self.say({"look": self._look, "t": now / 1e6, "client": self.check.verdict()})
        if now - self._ticked >= 1_000_000:
            self._tick(now)

    def _quiet(self) -> None:
        """A silence that goes on is told in parts, so that the live reader sees it: the last part is the whole."""
        if self.flights and self._still - self._quiet_since > 10 * QUIET_US:
            self._quiets.append((self._quiet_since, self._still - self._quiet_since))

    def _timeout(self, flight: Flight) -> str:
        answer = flight.answer
        if answer.error is not None or answer.status not in (0, 200):
            return answer.verdict()
        if flight.sent is None:
            return "connect_timeout"
        return "timeout_total" if answer.stamps else "timeout_first"

    def _tick(self, now: int) -> None:
        counts, ttft = self.counts, sorted(self.counts.ttft)
        self._ticked, counts.ttft = now, []
        self.say({
            "tick": round(now / 1e6, 3), "sent": counts.sent, "done": counts.done, "failed": counts.failed,
            "backlog": counts.backlog, "in_flight": len(self.flights), "tokens": counts.tokens,
            "ttft_p50_ms": ttft[len(ttft) // 2] / 1e3 if ttft else None,
            "errors": counts.failed - counts.backlog,
        })  # fmt: skip

    def _over(self) -> bool:
        if not (self._finished or (self._next is None)):
            return False
        return not self.flights or (self._drain_to is not None and self._now() >= self._drain_to)

    def _end(self) -> None:
        now = self._now()
        for flight in list(self.flights.values()):
            self._finish(flight, now, CANCELLED, "the load was ended")
        for connection in list(self.table.values()):
            self._drop(connection)
        self._sweep(now)
        self._tick(now)


def _mine(part: tuple[int, int], item: Item) -> bool:
    return item.index % part[1] == part[0]


def _count(part: tuple[int, int], below: int) -> int:
    """How many indexes under `below` are of this part."""
    return max(0, -(-(below - part[0]) // part[1]))

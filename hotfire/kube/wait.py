"""The one sleeper, the stop flag, and the wait by watch.

A watch runs in a daemon thread and feeds a queue on which the main thread waits 200 ms at a time, so that a signal is
seen within 250 ms whatever a socket does. The flag is a plain word, not an Event: a signal handler that sets an Event
while its own thread holds the Event's lock would wait for itself.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import urllib3

from hotfire.errors import Breach, Halted, Interrupted, Unjudged
from hotfire.kube.errors import ApiError, Gone, Unreachable, refused
from hotfire.kube.pods import line_of
from hotfire.words import Blame, Reason

if TYPE_CHECKING:
    from hotfire.kube.client import Cluster

T = TypeVar("T")
Object = dict[str, Any]
SLICE = 0.2  # seconds between two looks at the flag
LOOK = 1.0  # seconds after which `until` is asked again though nothing changed: it may rest on more than these objects
LAST_LOOK = 3.0  # seconds for the list that a refusal rests on
CHUNK = 30  # seconds after which the server ends a watch, so that a half-open connection is found out


class _Flag:
    up = False
    shields = 0
    act: Callable[[], str] | None = None


def interrupt() -> None:
    """Ask the run to stop; safe in a signal handler."""
    _Flag.up = True


def interrupted() -> bool:
    """Whether somebody asked, shielded or not."""
    return _Flag.up


def forget_interrupt() -> None:
    """Lower the flag: a new run in the same process."""
    _Flag.up, _Flag.act = False, None


def halt(act: Callable[[], str] | None) -> None:
    """From another thread: the main thread is to call this at its next look at the flag, and to raise Halted with what it
    says. None: not any more."""
    _Flag.act = act


def check_interrupt() -> None:
    """Raise Interrupted or Halted in the main thread, where a run decides; other threads go on until they are told."""
    if _Flag.shields or threading.current_thread() is not threading.main_thread():
        return
    if _Flag.up:
        raise Interrupted("a signal asked the run to stop")
    if (act := _Flag.act) is not None:
        _Flag.act = None
        with shielded():
            why = act()
        raise Halted(why)


@contextmanager
def shielded() -> Iterator[None]:
    """For the way back: in this block the flag stays up, but nothing raises Interrupted."""
    _Flag.shields += 1
    try:
        yield
    finally:
        _Flag.shields -= 1


def pause(seconds: float) -> None:
    """Sleep; raises Interrupted within 250 ms of the flag (main thread, unshielded)."""
    deadline = time.monotonic() + seconds
    while True:
        check_interrupt()
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(SLICE, left))


class Late(Breach):
    """It did not come in time, or never can. `seen`: object -> what was last seen of it."""

    def __init__(
        self, what: str, *, after_s: float, limit_s: float, seen: Mapping[str, str], stopped_early: str | None = None
    ) -> None:
        self.what, self.after_s, self.limit_s, self.seen = what, after_s, limit_s, dict(seen)
        self.stopped_early = stopped_early
        lines = [f"{name}  {line}" for name, line in seen.items()] or ["nothing of the kind was there"]
        if stopped_early:
            lines.append(f"stopped early: {stopped_early}")
        headline = f"{what}: not after {after_s:.0f}s (limit {limit_s:g}s)"
        super().__init__(headline, observed=self.seen, expected=what, details=lines)


def aside(call: Callable[[], T], within: float, what: str) -> T:
    """Run a call that may block in a daemon thread, while the main thread looks at the flag; elsewhere just run it.

    Its exceptions are raised here; Unreachable after `within` seconds, when the thread is left to itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - not swallowed: raised in the thread that waits
            answers.put((None, error))

    threading.Thread(target=run, name=f"aside-{what}", daemon=True).start()
    deadline = time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        check_interrupt()
        with suppress(queue.Empty):
            answer, error = answers.get(timeout=min(SLICE, left))
            if error is not None:
                raise error
            return cast(T, answer)
    raise Unreachable(0, "Timeout", f"{what}: no answer within {within:g} s")


class Watch:
    """What the server holds of one kind, kept up in a daemon thread: list, then watch, then again until it is closed.

    A stream that ends, whoever ends it, is only a reason to go on from where it was; after 410 the list is read again.
    Use it as a context manager. `events` gives ("LIST", {name: object}), ("ADDED" | "MODIFIED" | "DELETED", object),
    ("DOWN", ApiError) when the server does not answer and ("FAILED", ApiError) when it never will (no right, no kind).
    """

    def __init__(
        self, cluster: "Cluster", api_version: str, kind: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> None:
        self.cluster, self.selects = cluster, (api_version, kind, namespace, labels, fields)
        self.events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.reconnects = 0
        self._closed = False
        self._response: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind.lower()}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if (response := self._response) is not None:
            with suppress(OSError, ValueError, RuntimeError, urllib3.exceptions.HTTPError):
                response.shutdown()

    def key(self, obj: Object) -> str:
        """The object's name, with its namespace where several are watched."""
        meta = obj["metadata"]
        return str(meta["name"]) if self.selects[2] or not meta.get("namespace") else f"{meta['namespace']}/{meta['name']}"

    def _run(self) -> None:
        version, failures = "", 0
        while not self._closed:
            began = time.monotonic()
            try:
                if not version:
                    items, version = self.cluster.listing(*self.selects)
                    self.events.put(("LIST", {self.key(item): item for item in items}))
                version = self._follow(version)
            except Gone:
                version = ""
            except ApiError as error:
                if not error.passing and not self._closed:
                    self.events.put(("FAILED", error))
                    return
                self.reconnects += 1
                self.events.put(("DOWN", error))
            failures = failures + 1 if time.monotonic() - began < LOOK else 0
            pause(min(1.0, 0.05 * 2**failures) if failures else 0)

    def _follow(self, version: str) -> str:
        """Read one stream to its end; the resourceVersion to go on from."""
        api_version, kind, namespace, labels, fields = self.selects
        query = {
            "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(CHUNK),
            "labelSelector": labels, "fieldSelector": fields,
        }  # fmt: skip
        path = self.cluster.collection(api_version, kind, namespace)
        response = self.cluster.stream(path, query, read_timeout=CHUNK + 5)
        self._response, rest = response, b""
        try:
            for chunk in response.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    version = self._take(json.loads(line), version)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unreachable(0, type(error).__name__, f"watch {kind.lower()}s: the stream broke") from None
        finally:
            self._response = None
            response.close()
        return version

    def _take(self, event: Object, version: str) -> str:
        obj = event["object"]
        if event["type"] == "ERROR":
            raise refused(int(obj.get("code", 500)), json.dumps(obj), f"watch {self.selects[1].lower()}s")
        if event["type"] != "BOOKMARK":
            self.events.put((event["type"], {"apiVersion": self.selects[0], "kind": self.selects[1], **obj}))
        return str(obj["metadata"]["resourceVersion"])


def wait_for(
    cluster: "Cluster",
    what: str,
    api_version: str,
    kind: str,
    namespace: str = "",
    *,
    until: Callable[[dict[str, Object]], T | None],
    deadline_s: float,
    labels: str = "",
    fields: str = "",
    give_up: Callable[[dict[str, Object]], str | None] | None = None,
) -> T:
    """Wait until `until` says something other than None or False of the objects (name -> object); what it said.

    Both callables are asked at every change, and each second; what they may raise in passing (an API server that does
    not answer) counts as "not yet". Only they can end the wait well: no closed stream does (facts: H19).
    Raises Late after deadline_s, or once give_up says why it is pointless; Unjudged, blamed on the platform, when the
    API server cannot be read at the deadline: nobody is condemned on what was seen before.
    """
    began = time.monotonic()
    objects: dict[str, Object] = {}
    listed, looked = False, 0.0

    def late(why: str | None = None) -> Late:
        seen = {name: line_of(obj) for name, obj in sorted(objects.items())}
        return Late(what, after_s=time.monotonic() - began, limit_s=deadline_s, seen=seen, stopped_early=why)

    def ended() -> T | None:
        return _unless_passing(lambda: until(objects))

    with Watch(cluster, api_version, kind, namespace, labels, fields) as watch:
        while time.monotonic() - began < deadline_s:
            check_interrupt()
            changed = _drain(watch, objects)
            listed = listed or changed
            if listed and (changed or time.monotonic() - looked >= LOOK):
                if (found := ended()) is not None and found is not False:
                    return found
                if give_up is not None and (why := _unless_passing(lambda: give_up(objects))):
                    raise late(why)
                looked = time.monotonic()
        try:
            fresh = aside(lambda: cluster.listing(*watch.selects), LAST_LOOK, f"list {kind.lower()}s")[0]
        except ApiError as error:
            if not error.passing:
                raise
            message = f"{what}: the API server could not be read at the deadline ({deadline_s:g}s): {error.message}"
            raise Unjudged(message, reason=Reason.NO_DATA, blame=Blame.PLATFORM) from None
        objects.clear()
        objects.update({watch.key(item): item for item in fresh})
    if (found := ended()) is not None and found is not False:
        return found
    raise late()


def _unless_passing(call: Callable[[], T | None]) -> T | None:
    try:
        return call()
    except ApiError as error:
        if not error.passing:
            raise
        return None


def _drain(watch: Watch, objects: dict[str, Object]) -> bool:
    """Wait for news at most a slice, then take all there is; whether the objects may have changed."""
    changed, wait = False, SLICE
    while True:
        try:
            kind, what = watch.events.get(timeout=wait) if wait else watch.events.get_nowait()
        except queue.Empty:
            return changed
        wait = 0
        if kind == "FAILED":
            raise what
        if kind == "DOWN":
            continue
        changed = True
        if kind == "LIST":
            objects.clear()
            objects.update(what)
        elif kind == "DELETED":
            objects.pop(watch.key(what), None)
        else:
            objects[watch.key(what)] = what

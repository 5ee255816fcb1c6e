"""Events, watched from before an action on. They corroborate; that one is missing proves nothing (facts: faults 2.1, 10)."""

import queue
import time
from collections.abc import Sequence
from typing import Any, Self

from hotfire.kube.client import Cluster, Unreachable
from hotfire.kube.wait import SLICE, Watch, check_interrupt

Object = dict[str, Any]


def line(event: Object) -> str:
    """`13:02:11 Warning BackOff pod/llama-0: Back-off restarting (x3)`."""
    about = event.get("involvedObject") or {}
    at = str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))
    count = f" (x{event['count']})" if event.get("count", 1) > 1 else ""
    said = " ".join(str(event.get("message", "")).split())
    who = f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"
    return f"{at[11:19]} {event.get('type', '')} {event.get('reason', '')} {who}: {said}{count}"


class EventWatch:
    """The namespace's events that are new, or counted again, since the block was entered.

    gaps: how often the server was out of reach meanwhile; after a gap older events may have expired unseen.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._watch = Watch(cluster, "v1", "Event", namespace)
        self._before: dict[str, str] = {}
        self._found: dict[str, Object] = {}
        self.gaps = 0

    def __enter__(self) -> Self:
        """Returns once the server's list was read: what happens from here on is seen. Raises ApiError."""
        self._watch.__enter__()
        deadline = time.monotonic() + self._watch.cluster.timeout
        while time.monotonic() < deadline:
            check_interrupt()
            try:
                kind, what = self._watch.events.get(timeout=SLICE)
            except queue.Empty:
                continue
            if kind == "LIST":
                self._before = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in what.values()}
                return self
            if kind == "FAILED":
                raise what
        self._watch.__exit__()
        raise Unreachable(0, "Timeout", f"watch events: no list within {self._watch.cluster.timeout:g} s")

    def __exit__(self, *_: object) -> None:
        self._watch.__exit__()

    def seen(self) -> Sequence[Object]:
        """All so far, each in its last form, in order of their first arrival."""
        while True:
            try:
                kind, what = self._watch.events.get_nowait()
            except queue.Empty:
                return list(self._found.values())
            if kind in ("DOWN", "FAILED"):
                self.gaps += 1
            for event in what.values() if kind == "LIST" else [what] if kind in ("ADDED", "MODIFIED") else ():
                meta = event["metadata"]
                if self._before.get(meta["uid"]) != meta["resourceVersion"]:
                    self._found[meta["uid"]] = event

    def about(self, uid: str) -> Sequence[Object]:
        """Those whose object is exactly that one."""
        return [event for event in self.seen() if (event.get("involvedObject") or {}).get("uid") == uid]

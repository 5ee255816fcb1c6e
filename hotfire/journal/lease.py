"""A Lease per workload: who may write, for how long, and how a dead holder is recognised.

T is the Lease's length. It is renewed every T/3; writes stop 2T/3 after the last renewal; another may take it over after it
read the Lease unchanged for 4T/3. Each party uses its own monotonic clock, and a failed read starts the count again: an API
server that does not answer is no proof of a dead holder (DESIGN 4).
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self

from hotfire.errors import LeaseLost, Refused
from hotfire.journal.journal import MANAGED, Journal, name_for
from hotfire.kube.client import ApiError, Cluster, Conflict, NotFound, Object, Ref
from hotfire.kube.wait import pause, shielded

API = "coordination.k8s.io/v1"
RELEASES = 4  # tries to give a Lease back to an API server that fails in passing


class NotRenewed(LeaseLost):
    """Nobody took the Lease as far as is known, but the last renewal is too old to write on. It may pass."""


class Lease:
    """The Leases of a run's workloads, taken in name order (two runs never wait for each other), renewed by one thread."""

    def __init__(self, cluster: Cluster, run: str, length_s: float) -> None:
        self.cluster, self.run, self.length_s = cluster, run, length_s
        self.held: list[Object] = []
        self.lapses = 0  # how often it was renewed too late for writes to have gone on in between
        self._renewed = time.monotonic()
        self._lost = ""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @classmethod
    def take(
        cls,
        cluster: Cluster,
        home: str,
        workloads: Sequence[str],
        run: str,
        length_s: float,
        *,
        wait_s: float = 0,
        namespace: str = "",
    ) -> Self:
        """Hold them all. Raises Refused, naming holder and since when, once one was another's for wait_s seconds."""
        return cls.take_named(cluster, refs_of(home, workloads, namespace), run, length_s, wait_s=wait_s)

    @classmethod
    def take_named(cls, cluster: Cluster, refs: Mapping[Ref, str], run: str, length_s: float, *, wait_s: float = 0) -> Self:
        """Like `take`. refs: Leases in the order in which they are taken -> what each is about."""
        lease = cls(cluster, run, length_s)
        lease._thread.start()  # the first is renewed while the next is waited for
        try:
            for ref, workload in refs.items():
                live, since = _take(cluster, ref, workload, run, length_s, wait_s)
                with lease._lock:
                    lease.held.append(live)
                    lease._renewed = min(lease._renewed, since) if len(lease.held) > 1 else since
        except BaseException:
            lease.release()
            raise
        return lease

    @classmethod
    def inherit(cls, sight: "Sight", heir: str, length_s: float) -> Self | None:
        """What a dead run held, as `sight` saw it last; None when one of them has moved since: somebody is alive."""
        lease, since = cls(sight.cluster, heir, length_s), time.monotonic()
        try:
            for ref, live in sight.live.items():
                spec = live["spec"] if live else {}
                body = _body(ref, heir, length_s, int(spec.get("leaseTransitions") or 0) + 1)
                if live:
                    body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
                lease.held.append(lease.cluster.replace(body) if live else lease.cluster.create(body))
        except Conflict:
            lease.release()
            return None
        except BaseException:
            lease.release()
            raise
        lease._renewed = since
        lease._thread.start()
        return lease

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def guard(self) -> None:
        """To be called before every mutation: raises LeaseLost unless this run may still write, NotRenewed if it may again."""
        if self._lost:
            raise LeaseLost(self._lost)
        limit, silent = self._limit_s, time.monotonic() - self._renewed
        if self._stop.is_set():
            raise LeaseLost("the Lease was released")
        if silent > limit:
            raise NotRenewed(f"the Lease was last renewed {silent:.1f} s ago, writes stop after {limit:.1f} s")

    @property
    def _limit_s(self) -> float:
        return 2 * self.length_s / 3

    def release(self) -> None:
        """Stop renewing and leave an empty holder behind. A Lease that is another's by now is left alone."""
        self._stop.set()
        with self._lock:
            for live in self.held:
                self._give_back(live)
            self.held = []

    def leave(self) -> None:
        """Stop renewing and leave the holder as it is: for an heir that is there already, or dead to whoever reads it next."""
        self._stop.set()
        with self._lock:
            self.held = []

    def _give_back(self, live: Object) -> None:
        """What cannot be released in a few tries runs out by itself, or is another run's."""
        for _ in range(RELEASES):
            try:
                self._write(live, holder="")
                return
            except LeaseLost:
                return
            except ApiError as error:
                if not error.passing:
                    return
            with shielded():
                pause(self.length_s / 10)

    def _keep(self) -> None:
        while not self._stop.wait(self.length_s / 3):
            with self._lock:
                if self._stop.is_set():
                    return
                sent = time.monotonic()
                try:
                    self.held = [self._write(live, holder=self.run) for live in self.held]
                    self.lapses += sent - self._renewed > self._limit_s  # before guard() lets writes through again
                    self._renewed = sent
                except LeaseLost as lost:
                    self._lost = str(lost)
                    return
                except ApiError:
                    continue  # guard() stops the writes in time if this lasts

    def _write(self, live: Object, holder: str) -> Object:
        """Renew or release. After a lost acknowledgement our own version is newer than we know: looked up, not guessed."""
        spec = {**live["spec"], "holderIdentity": holder, "renewTime": _now()}
        try:
            return self.cluster.replace({**live, "spec": spec})
        except (Conflict, NotFound):
            found = self.cluster.find(Ref.of(live))
        if found is None or found["metadata"]["uid"] != live["metadata"]["uid"]:
            raise LeaseLost(f"the Lease {live['metadata']['name']} of run {self.run} was deleted")
        same = found["spec"].get("leaseTransitions") == live["spec"].get("leaseTransitions")
        if not same or found["spec"].get("holderIdentity") != self.run:
            raise LeaseLost(f"the Lease {live['metadata']['name']} is run {found['spec'].get('holderIdentity')}'s now")
        try:
            return self.cluster.replace({**found, "spec": spec})
        except Conflict as conflict:
            raise LeaseLost(f"the Lease {live['metadata']['name']} is written by another: {conflict}") from None


class Sight:
    """Leases of another, read again and again. Unchanged for 4T/3 on this reader's clock means that their holder is dead."""

    def __init__(self, cluster: Cluster, refs: Iterable[Ref], length_s: float) -> None:
        self.cluster, self.length_s = cluster, length_s
        self.live: dict[Ref, Object | None] = dict.fromkeys(refs)
        self._seen: list[str] = []
        self._since = time.monotonic()

    def look(self) -> bool:
        """Whether the holder is dead. A read that fails raises ApiError and starts the count again."""
        now = time.monotonic()
        try:
            self.live = {ref: self.cluster.find(ref) for ref in self.live}
        except ApiError:
            self._seen = []
            raise
        seen = [live["metadata"]["resourceVersion"] if live else "none" for live in self.live.values()]
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since > 4 * self.length_s / 3

    @property
    def holders(self) -> set[str]:
        """Who held them at the last look; empty where nobody does."""
        return {str(live["spec"].get("holderIdentity") or "") for live in self.live.values() if live} - {""}


def refs_of(home: str, workloads: Sequence[str], namespace: str = "") -> dict[Ref, str]:
    """The Leases of workloads in the order in which every run takes them -> the workload."""
    return {Ref(API, "Lease", home, name_for(workload, home, namespace)): workload for workload in sorted(set(workloads))}


def leases_of(journal: Journal) -> dict[Ref, str]:
    """Those of a run."""
    return refs_of(journal.ref.namespace, journal.body.workloads, journal.body.namespace)


def holder_of(cluster: Cluster, home: str, workload: str, namespace: str = "") -> str:
    """Who holds the workload's Lease; empty when it is free or there is none."""
    live = cluster.find(Ref(API, "Lease", home, name_for(workload, home, namespace)))
    return str(live["spec"].get("holderIdentity") or "") if live else ""


def ours(live: Object) -> None:
    """Raises Refused for a Lease of that name which no hotfire made: it may mean anything, and is never taken."""
    meta = live["metadata"]
    if not MANAGED.items() <= (meta.get("labels") or {}).items():
        holder = live["spec"].get("holderIdentity") or "nobody"
        raise Refused(
            f"lease {meta['name']} in {meta['namespace']} was not made by hotfire and is held by {holder}: delete it, or give "
            f"it the labels {', '.join(f'{key}={value}' for key, value in MANAGED.items())} if it is a run's"
        )


def busy(ref: Ref, workload: str, live: Object) -> str:
    """Who holds the Lease, since when, and what can be done."""
    spec = live["spec"]
    since = spec.get("acquireTime", "unknown")
    return (
        f"{workload} in {ref.namespace} is held by run {spec.get('holderIdentity')} since {since}: "
        f"wait for it (--wait 10m), or, if it is dead, `hotfire abort --namespace {ref.namespace}` takes over when its Lease "
        f"of {spec.get('leaseDurationSeconds')} s has run out"
    )


def _take(cluster: Cluster, ref: Ref, workload: str, run: str, length_s: float, wait_s: float) -> tuple[Object, float]:
    """The Lease, ours, and the moment from which it counts."""
    began = unchanged_since = time.monotonic()
    seen = ""
    while True:
        now = time.monotonic()
        try:
            live = cluster.find(ref)
            if live is None:
                return cluster.create(_body(ref, run, length_s, 0)), now
            ours(live)
            version, spec = live["metadata"]["resourceVersion"], live["spec"]
            if version != seen:
                unchanged_since, seen = now, version
            holder, theirs = spec.get("holderIdentity") or "", float(spec.get("leaseDurationSeconds") or length_s)
            if not holder or now - unchanged_since > 4 * theirs / 3:
                body = _body(ref, run, length_s, int(spec.get("leaseTransitions") or 0) + 1)
                body["metadata"]["resourceVersion"] = version
                return cluster.replace(body), now
        except Conflict:
            holder = ""  # another was faster: look again who
        except ApiError as error:
            if not error.passing or now - began >= wait_s:
                raise
            seen = ""
            holder = ""
        if live and holder and now - began >= wait_s:
            raise Refused(busy(ref, workload, live))
        pause(min(0.5, length_s / 6))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _body(ref: Ref, run: str, length_s: float, transitions: int) -> Object:
    spec = {
        "holderIdentity": run,
        "leaseDurationSeconds": max(1, round(length_s)),
        "acquireTime": _now(),
        "renewTime": _now(),
        "leaseTransitions": transitions,
    }
    meta = {"name": ref.name, "namespace": ref.namespace, "labels": dict(MANAGED)}
    return {"apiVersion": API, "kind": "Lease", "metadata": meta, "spec": spec}

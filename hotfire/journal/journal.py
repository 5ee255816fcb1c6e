"""The journal: state, write-ahead undo entries and anchors of one run, in one ConfigMap named after its first workload.

Its state is the only authority over what the run may still do. Every write is a compare-and-swap by resourceVersion:
whoever loses it has lost the run. It is never on the workload itself: `kubectl rollout undo`, which an operator types in
an emergency, wipes a Deployment's annotations (facts: faults 4.1).
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError

from hotfire.errors import Damaged, HarnessError, LeaseLost, Refused
from hotfire.journal.entries import Asked, Entry, FaultBegun, FaultEnded, OnObject, Other, Strict
from hotfire.kube.client import Cluster, Conflict, Object, Ref, Unreachable
from hotfire.words import Mode, State, Verdict

VERSION: Literal["hotfire/journal/v1"] = "hotfire/journal/v1"
MANAGED = {"app.kubernetes.io/managed-by": "hotfire"}
SELECT = "app.kubernetes.io/managed-by=hotfire"
GOES_ON = ("rehearsal", "drill")  # restorations after which the run deploys again

NEXT: Mapping[State, tuple[State, ...]] = {
    State.OPEN: (State.ARMED, State.RESTORING),
    State.ARMED: (State.APPLYING, State.WAITING, State.RESTORING),
    State.WAITING: (State.TESTING, State.RESTORING),
    State.APPLYING: (State.TESTING, State.RESTORING),
    State.TESTING: (State.CONFIRMED, State.WAITING, State.RESTORING),
    State.RESTORING: (State.RESTORED, State.RESTORING),  # to itself: taken from an executor that died
    State.CONFIRMED: (),
    State.RESTORED: (State.APPLYING, State.RESTORING),  # only on from a rehearsal or a drill, which may need the way back too
}

E = TypeVar("E", bound=Strict)


class Body(Strict):
    """What the ConfigMap holds, as JSON under the key `journal`."""

    version: Literal["hotfire/journal/v1"] = VERSION
    run: str
    namespace: str  # where the candidate goes; the journal of a created namespace lies elsewhere
    mode: Mode
    workloads: tuple[str, ...]
    services: tuple[str, ...] = ()
    serves: tuple[Asked, ...] = ()
    others: tuple[Other, ...] = ()  # workloads that are neither Deployment nor StatefulSet
    lease_s: float = 30.0
    soak_s: float = 10.0
    within_s: float = 180.0
    keep: bool = False
    state: State = State.OPEN
    by: str = ""
    why: str = ""
    n: int = 0  # how often somebody took up restoring
    since: str = ""
    asked: Literal["", "ROLL_BACK", "HANDED_OVER"] = ""  # of the watchdog, by the run
    settle_by: str = ""  # by the API server's clock: not settled by then, the watchdog restores
    deploy_by: str = ""  # WAITING: nothing deployed by then, the watchdog closes the run; empty once `verify` has come
    watchdog: str = ""  # the Job that restores; empty: the way back is not armed
    image: str = ""  # the watchdog's, by digest
    done: int = 0  # the n of the restorer who found nothing left to write
    proofs: dict[str, str] = Field(default_factory=dict)  # point -> result and evidence, where no record could take them
    settled: bool = False  # a final state whose cleaning up is done: the journal is a tombstone
    entries: tuple[Entry, ...] = ()
    anchors: tuple[str, ...] = ()  # head hashes of the record
    confirmed: str = ""  # the head hash at the commit point
    committed: dict[str, str] = Field(default_factory=dict)  # object of the candidate -> its digest at the commit point
    syncs: tuple[OnObject, ...] = ()  # owners that would apply the candidate again by themselves, when the run was armed
    suspend: bool = False  # consent to suspend them before anything is put back; without it the way back is theirs
    releases: tuple[str, ...] = ()  # Helm's, that were there when the run was armed
    not_applicable: dict[str, str] = Field(default_factory=dict)  # proof point -> reason, fixed before deploying
    images: tuple[str, ...] = ()  # last known good: digests of the running pods
    templates: dict[str, str] = Field(default_factory=dict)  # workload -> hash of the template they ran
    snapshot_digest: str = ""
    parts: int = 0
    last_verdict: str = ""
    last_known_good: tuple[str, ...] = ()


class Journal:
    """A run's journal as this process last read or wrote it. Once another run has opened it, it is not written any more."""

    def __init__(self, cluster: Cluster, live: Object, body: Body) -> None:
        self.cluster, self.live, self.body = cluster, live, body
        self._run = body.run

    @property
    def ref(self) -> Ref:
        return Ref.of(self.live)

    @property
    def state(self) -> State:
        return self.body.state

    @property
    def final(self) -> bool:
        """The state is final, and not that of a rehearsal or a drill, from which the run goes on."""
        return self.state.final and not (self.state is State.RESTORED and self.body.why in GOES_ON)

    @property
    def ended(self) -> bool:
        """A tombstone: the next run may begin."""
        return self.final and self.body.settled

    @property
    def untouched(self) -> bool:
        """Nothing was changed: what undoes a change is durable before it, and nothing is there."""
        return not self.body.entries

    @property
    def theirs(self) -> str:
        """Who alone can roll back, in words; empty where hotfire restores."""
        return "" if self.body.suspend else ", ".join(one.ref.whole for one in self.body.syncs)

    def of_type(self, kind: type[E]) -> list[E]:
        """Its entries of one type, oldest first."""
        return [entry for entry in self.body.entries if isinstance(entry, kind)]

    @property
    def others(self) -> dict[Ref, Other]:
        """Workloads that are neither Deployment nor StatefulSet."""
        return {one.ref: one for one in self.body.others}

    @property
    def open_faults(self) -> list[FaultBegun]:
        """Those whose undo nobody has witnessed."""
        ended = {entry.fault for entry in self.of_type(FaultEnded)}
        return [entry for entry in self.of_type(FaultBegun) if entry.fault not in ended]

    # -- finding and opening --------------------------------------------------------------------------------------

    @classmethod
    def read(cls, cluster: Cluster, home: str, workload: str, namespace: str = "") -> "Journal | None":
        """The journal of a workload, also one that is named after another workload of its run. None if there is none.

        Raises Refused for a version that this hotfire does not know.
        """
        ref = Ref("v1", "ConfigMap", home, name_for(workload, home, namespace))
        live = cluster.find(ref)
        if live is not None and (other := (live.get("data") or {}).get("pointer")):
            live = cluster.find(Ref("v1", "ConfigMap", home, other))
        if live is None or "journal" not in (live.get("data") or {}):
            return None
        found = cls(cluster, live, parse(live))
        return found if workload in found.body.workloads else None  # a stale pointer names a journal of other workloads

    @classmethod
    def open(cls, cluster: Cluster, home: str, body: Body) -> Self:
        """A fresh journal, over the tombstone of an ended run. Raises Refused over one that has not ended."""
        body = body.model_copy(update={"since": now(), "by": body.run})
        for workload in body.workloads:
            before = cls.read(cluster, home, workload, body.namespace)
            if before is not None and not before.ended:
                raise Refused(_unended(before, workload))
            if before is not None and workload == body.workloads[0]:
                body = body.model_copy(
                    update={"last_verdict": before.body.last_verdict, "last_known_good": before.body.last_known_good}
                )
        first, *others = (name_for(workload, home, body.namespace) for workload in body.workloads)
        live = _put(cluster, home, first, {"journal": body.model_dump_json()})
        for other in others:
            _put(cluster, home, other, {"pointer": first})
        return cls(cluster, live, body)

    def reread(self) -> None:
        """Take what the cluster holds now. Raises NotFound when the journal was deleted."""
        self.live = self.cluster.get(self.ref)
        self.body = parse(self.live)

    # -- writing --------------------------------------------------------------------------------------------------

    def move(self, to: State, *, by: str, why: str = "", **more: object) -> None:
        """Compare-and-swap the state. Raises HarnessError for an illegal step, LeaseLost when another moved it first."""
        if self.final or to not in NEXT[self.state]:
            allowed = ", ".join(NEXT[self.state]) or "nothing"
            raise HarnessError(f"the journal of run {self.body.run} is {self.state}: {to} does not follow it, {allowed} may")
        if to is State.RESTORING:
            more["n"] = self.body.n + 1
        self.write(state=to, by=by, why=why or (self.body.why if to is State.RESTORED else ""), since=now(), **more)

    def record(self, *entries: Entry) -> None:
        """Append entries; durable when this returns. Nothing is ever taken out of them."""
        if entries:
            self.write(entries=(*self.body.entries, *entries))

    def anchor(self, head: str) -> None:
        """Keep the record's head hash where the record's author cannot rewrite it later."""
        self.write(anchors=(*self.body.anchors, head))

    def conclude(self, verdict: Verdict | str, **more: object) -> None:
        """What the tombstone says of its run. more: changes in the same write."""
        good = self.body.images if self.state is State.RESTORED else self.body.last_known_good
        self.write(last_verdict=str(verdict), last_known_good=good, **more)

    def write(self, **changes: object) -> None:
        """One compare-and-swap. A lost acknowledgement is looked up, never guessed; it may be an earlier try's."""
        if self.body.run != self._run:  # read anew by one who slept: a resourceVersion of its own would not keep it out
            raise LeaseLost(f"the journal of run {self._run} is run {self.body.run}'s now")
        body = Body.model_validate({**self.body.model_dump(), **changes})
        wanted = {**self.live, "data": {"journal": body.model_dump_json()}}
        try:
            self.live = self.cluster.replace(wanted)
        except (Conflict, Unreachable) as error:
            live = self.cluster.find(self.ref)
            if live is not None and _same(live, body):
                self.live, body = live, parse(live)
            elif isinstance(error, Unreachable):
                raise
            else:
                raise LeaseLost(f"the journal of run {self.body.run} was moved on by another: {error}") from None
        self.body = body

    def owner(self) -> Object:
        """The ownerReference that makes an object go with the journal."""
        meta = self.live["metadata"]
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": meta["name"], "uid": meta["uid"]}


def _same(live: Object, body: Body) -> bool:
    """Whether this write is there, whenever it was sent: everything but its time, and who signed it, is as it was meant."""
    try:
        return parse(live).model_copy(update={"since": body.since}) == body
    except (Refused, KeyError):
        return False


def name_for(workload: str, home: str = "", namespace: str = "") -> str:
    """`deployment/llama` -> `hotfire-deployment-llama`; away from home with the namespace in it."""
    away = f"{namespace}-" if namespace and namespace != home else ""
    return f"hotfire-{away}{workload.replace('/', '-')}"


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def parse(live: Object) -> Body:
    """Raises Refused for a version that is not understood, Damaged for an entry that is none: shown, never guessed."""
    text, name = live["data"]["journal"], live["metadata"]["name"]
    try:
        version = json.loads(text).get("version")
        if version != VERSION:
            raise Refused(f"journal {name} has version {version!r}, {VERSION!r} is understood: use the hotfire that wrote it")
        return Body.model_validate_json(text)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"]))
        raise Damaged(f"journal {name} is damaged at {place}: {wrong['msg']}, seen: {str(wrong['input'])[:200]}") from None
    except (ValueError, AttributeError):
        raise Damaged(f"journal {name} is damaged: {text[:80]!r} is no journal") from None


def _unended(before: Journal, workload: str) -> str:
    body = before.body
    if before.state is State.CONFIRMED:
        return f"run {body.run} confirmed {workload} and was not settled since {body.since}: {next_step(body)}"
    return f"run {body.run} left {workload} in {body.namespace} in state {before.state} since {body.since}: {next_step(body)}"


def next_step(body: Body) -> str:
    """The command that brings a dead run to its end, in words."""
    where = f"--namespace {body.namespace}"
    if body.state is State.CONFIRMED:
        return f"`hotfire settle reports/{body.run}` proves the new state and closes it"
    if body.state is State.WAITING:
        verify = f"`hotfire verify reports/{body.run}` once its pipeline has deployed, or " if body.deploy_by else ""
        return f"{verify}`hotfire settle reports/{body.run}`"
    if body.state is State.RESTORING:
        return f"`hotfire resume {where}` goes on with its way back"
    return f"`hotfire abort {where}` restores what was there before it"


def _put(cluster: Cluster, namespace: str, name: str, data: Mapping[str, str]) -> Object:
    """Create the ConfigMap or put it over the one there. Raises LeaseLost when another is at it too."""
    meta: Object = {"name": name, "namespace": namespace, "labels": dict(MANAGED)}
    obj: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(data)}
    live = cluster.find(Ref.of(obj))
    try:
        if live is None:
            return cluster.create(obj)
        meta["resourceVersion"] = live["metadata"]["resourceVersion"]
        return cluster.replace(obj)
    except Conflict as conflict:
        raise LeaseLost(f"another run opens the journal {name}: {conflict}") from None


def lying(cluster: Cluster, namespace: str) -> Iterator[Object]:
    """What lies in a namespace (or in all) as a journal, not read yet."""
    return (live for live in cluster.list("v1", "ConfigMap", namespace, labels=SELECT) if "journal" in (live.get("data") or {}))


def lying_away(cluster: Cluster, namespace: str) -> Iterator[Object]:
    """What lies elsewhere as a journal about a namespace, not read yet."""
    for live in lying(cluster, ""):
        meta = live["metadata"]
        if meta["namespace"] != namespace and meta["name"].startswith(f"hotfire-{namespace}-"):
            yield live


def away(cluster: Cluster, namespace: str) -> Iterator[Journal]:
    """Journals about a namespace that lie elsewhere. Those of others are not read: what they hold is not our business."""
    return (Journal(cluster, live, parse(live)) for live in lying_away(cluster, namespace))

"""The events of a run, as types. Pure: no I/O, no clock.

A line of `record.jsonl` is an `Entry`: sequence number, wall time (UTC, ISO 8601), seconds since the run began on the
monotonic clock, the event, the previous line's hash and its own: sha256 over the canonical JSON of all other fields.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hotfire.words import Blame, Decision, Effect, Gate, Mode, Outcome, Proof, Reason, State, Verdict

GENESIS = "0" * 64
GoesOn = Literal["rehearsal", "drill"]  # ways back from which the run goes on
Back = GoesOn | Literal["end"]


class Event(BaseModel):
    """Frozen, strict; `type` tells the kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # the writer spells them out


class Opened(Event):
    """The run exists: what, where, with which way back."""

    type: Literal["opened"] = "opened"
    run: str
    scenario: str
    about: str
    mode: Mode
    scenario_digest: str
    candidate_digest: str
    baseline: str = Field(description="last known good by digest, or `absent`")
    accelerators: str
    stand: str = Field(description="server version, context and namespace, in words")
    namespace: str = Field("", description="where the candidate goes; empty in records of before it was written")
    way_back: str = Field(description="who would restore; whether it was armed, the `armed` event says")
    owner: str = Field("", description="who alone can roll back, for it would apply the candidate again; else hotfire does")
    users: str
    certified: str = Field("none", description="promote: the certificate relied on, or none")
    since: str = Field("", description="when, by the API server's clock; empty in records of before it was written")
    version: str


class PlannedCheck(Event):
    """A check that scenario and mode require, or one they do not ask for (then `asked` is false with a reason)."""

    id: str
    param: str = ""
    suite: str
    test: str = ""
    question: str
    row: str = ""
    gate: Gate = Gate.REQUIRED
    blames: Blame = Blame.CANDIDATE
    evidence: str = ""
    asked: bool = True
    reason: Reason | None = None

    @property
    def key(self) -> str:
        return f"{self.id}[{self.param}]" if self.param else self.id


class Planned(Event):
    """Every check this run must hear of; a check that stays silent is NOT_RUN."""

    type: Literal["planned"] = "planned"
    checks: tuple[PlannedCheck, ...]


class Stage(Event):
    """A suite began or ended."""

    type: Literal["stage"] = "stage"
    suite: str
    phase: Literal["began", "ended"]


class Seen(Event):
    """Evidence: what a noun observed (and what was expected) under a check."""

    type: Literal["seen"] = "seen"
    check: str
    noun: str
    count: int = Field(description="how many of the noun; 0 is never enough")
    observed: Any = None
    expected: Any = None


class Judged(Event):
    """A check's outcome."""

    type: Literal["judged"] = "judged"
    check: str
    outcome: Outcome
    reason: Reason | None = None
    blame: Blame | None = None
    message: str = ""
    details: tuple[str, ...] = ()
    observed: Any = None
    expected: Any = None
    seconds: float = 0.0


class Loaded(Event):
    """A load ended (or reached a look): where its samples lie and what the client says of itself."""

    type: Literal["loaded"] = "loaded"
    name: str
    plan: str = Field(description="file, relative to the run's folder")
    plan_digest: str
    samples: str
    samples_digest: str
    look: int
    arrivals: str
    to: str = Field("", description="the workload that was asked; others of the candidate were under no load")
    client: dict[str, Any] = Field(description="the client check: sound, cause, remedy, figures")
    window: tuple[float, float] = Field(description="seconds from t0 of the load")
    warm_up: int = Field(0, description="requests sent before the first that counts; the plan fixed them beforehand")
    served_by: dict[str, Any] = Field(
        default_factory=dict, description="how it is known who answered (header, counters, the only pod, unknown); pod -> count"
    )


class Gated(Event):
    """A statistical gate was evaluated; `judge` recomputes it from the samples."""

    type: Literal["gated"] = "gated"
    check: str
    load: str
    look: int
    last_look: bool
    gate: dict[str, Any] = Field(description="metric, statistic, limit, confidence, required_gates, kind of arrivals")
    judgement: dict[str, Any]


class Flowed(Event):
    """How many requests were in flight under a load, and whether that only grew; `judge` recomputes it from the samples."""

    type: Literal["flowed"] = "flowed"
    load: str
    look: int
    requests: int = Field(description="counted ones, the window")
    until: float = Field(description="end of the observation, seconds from t0 of the load")
    flow: dict[str, Any] = Field(description="busy, mean, fifths, saturated, confirmed")


def requests_of(intervals: Iterable[Sequence[float]]) -> int:
    """Of the intervals of a Counted event that count, by the part that saw most in each."""
    return int(sum(max(told[::2], default=0) for _, counts, *told in intervals if counts))


class Counted(Event):
    """What the candidate's pods, or a gateway, counted of all requests, users' among them; `judge` asks the burn guard of it
    again."""

    type: Literal["counted"] = "counted"
    check: str
    by: str = "the pods"
    parts: tuple[dict[str, Any], ...] = Field(description="slo, kind (errors, ttft, e2e), limit_s, allowed share, alpha")
    intervals: tuple[tuple[float, ...], ...] = Field(
        description="seconds since the first reading, 1 if it counts (0: under a declared fault), then requests and bad ones "
        "of each part; of those in a row in which nothing grew the last"
    )
    ours: int = Field(description="requests that hotfire itself has sent to these pods, in intervals that count")
    burnt: int | None = Field(None, description="the interval at which it burnt")
    uncounted: tuple[str, ...] = Field((), description="what of the objectives they do not tell, each with its reason")
    last: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="UID of a pod -> requests and bad ones of each part at its last reading"
    )

    @property
    def requests(self) -> int:
        """In all that counts, by the part that saw most in each interval."""
        return requests_of(self.intervals)

    @property
    def bad(self) -> tuple[int, ...]:
        """Of each part, in all that counts."""
        told = [one[1::2] for _, counts, *one in self.intervals if counts]
        return tuple(int(sum(column)) for column in zip(*told, strict=True)) or (0,) * len(self.parts)


class Faulted(Event):
    """A step in the life of a fault; every step carries its own evidence."""

    type: Literal["faulted"] = "faulted"
    fault: str
    step: Literal["target", "control", "intent", "applied", "effect", "undone", "recovered"]
    effect: Effect | None = None
    data: dict[str, Any]


class Marked(Event):
    """A moment on the timeline, for plots and windows."""

    type: Literal["marked"] = "marked"
    name: str
    load_time: float | None = None


class Changed(Event):
    """The journal's state changed."""

    type: Literal["changed"] = "changed"
    state: State
    by: str
    why: str = ""


class Anchored(Event):
    """The head hash of the record was written into the journal."""

    type: Literal["anchored"] = "anchored"
    head: str


class Snapshot(Event):
    """What was there before: one row per closure object (kind/name, uid, resourceVersion, digest)."""

    type: Literal["snapshot"] = "snapshot"
    objects: tuple[dict[str, Any], ...]
    digest: str
    left_out: tuple[str, ...] = Field((), description="what a restore could not put back, one line each")


class Deployed(Event):
    """What the deploy did, object by object, and what was carried over from the live object."""

    type: Literal["deployed"] = "deployed"
    objects: tuple[dict[str, Any], ...]


class Decided(Event):
    """The decision, and what it follows from."""

    type: Literal["decided"] = "decided"
    decision: Decision
    because: tuple[str, ...]


class Proved(Event):
    """One of the points of the proof that old (or absent, or new) is what is there."""

    type: Literal["proved"] = "proved"
    of: Back = Field("end", description="the run's end, or a way back that was gone before it")
    point: str
    result: Proof
    evidence: str
    data: Any = None


class Served(BaseModel):
    """Who was served while the way back was gone. longest_s: seconds without an answer; ready: Service -> fewest endpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: int
    failed: int
    longest_s: float
    ready: dict[str, int]

    def __str__(self) -> str:
        least = ", ".join(f"{service} {n}" for service, n in self.ready.items()) or "not known"
        return (
            f"meanwhile {self.failed} of {self.asked} questions failed, at most {self.longest_s:.1f} s without an answer; "
            f"fewest ready endpoints: {least}"
        )


class Restored(Event):
    """The way back was gone: two times in seconds from its first write; served: where somebody could be asked meanwhile."""

    type: Literal["restored"] = "restored"
    of: Back = "end"
    restored_s: float
    settled_s: float
    served: Served | None = None


class Suspended(Event):
    """Before anything was put back: an owner that would apply the candidate again by itself no longer does."""

    type: Literal["suspended"] = "suspended"
    object: str
    resume: str = Field(description="the command that gives it back what its spec said before")

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.object} stays suspended, or it would apply the candidate again; when its source is mended: {self.resume}"


class Signalled(Event):
    """A signal asked the run to stop: whatever follows, the verdict is INCONCLUSIVE at best."""

    type: Literal["signalled"] = "signalled"
    signal: str


class Armed(Event):
    """The watchdog was proven alive: this pod runs its image, has rehearsed the way back and holds its Lease."""

    type: Literal["armed"] = "armed"
    pod: str


class Told(Event):
    """A line for people."""

    type: Literal["told"] = "told"
    line: str


class Concluded(Event):
    """The verdict."""

    type: Literal["concluded"] = "concluded"
    verdict: Verdict
    because: tuple[str, ...]


class Closed(Event):
    """The last event of a whole record."""

    type: Literal["closed"] = "closed"


AnyEvent = Annotated[
    Opened
    | Planned
    | Stage
    | Seen
    | Judged
    | Loaded
    | Gated
    | Flowed
    | Counted
    | Faulted
    | Marked
    | Changed
    | Anchored
    | Snapshot
    | Armed
    | Deployed
    | Decided
    | Proved
    | Restored
    | Suspended
    | Signalled
    | Told
    | Concluded
    | Closed,
    Field(discriminator="type"),
]


class Entry(BaseModel):
    """One line of the record."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seq: int
    at: str
    t: float
    event: AnyEvent
    prev: str
    hash: str


ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


def chain_hash(seq: int, at: str, t: float, event: dict[str, Any], prev: str) -> str:
    """sha256 over the canonical JSON (sorted keys, no spaces) of everything but the hash itself."""
    body = json.dumps([seq, at, t, event, prev], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(body.encode()).hexdigest()

"""How pods are doing, from their own status alone: pure functions on the objects.

A pod is TERMINAL only where neither a restart nor waiting can clear it. A first crash is never that; a network that
fails while pulling is not; a digest the registry does not have, or a limit that killed the container twice, is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hotfire.kube.fit import fits as fits
from hotfire.words import Grade

Object = dict[str, Any]

OOM_RESTARTS = 2  # a limit is a constant: what it killed twice within START_S of its start, it kills again
START_S = 30.0
HOPELESS_PULL = re.compile(
    r"not found|manifest unknown|unauthorized|authentication required|no basic auth|denied|403 Forbidden|"
    r"no match for platform|invalid reference",
    re.IGNORECASE,
)
HOPELESS_CONFIG = re.compile(
    r"couldn't find key|runAsNonRoot|run as root|non-numeric user|invalid (?:variable|environment)", re.I
)
PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ErrImageNeverPull", "InvalidImageName"})
NEVER = frozenset({"ErrImageNeverPull", "InvalidImageName"})
CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"})


@dataclass(frozen=True)
class Seen:
    """What a pod's status says. line: `GRADE: why`, or `serving since … on NODE`."""

    grade: Grade
    why: str
    unschedulable: bool = False

    @property
    def line(self) -> str:
        """One line for people."""
        return self.why if self.grade is Grade.HEALTHY else f"{self.grade}: {self.why}"


@dataclass(frozen=True)
class Container:
    """One container as its status shows it. exit_code and reason are of its last death, if it died."""

    name: str
    state: str  # waiting, running, terminated, or unknown while the kubelet has said nothing
    ready: bool
    restarts: int
    container_id: str
    image_id: str
    reason: str  # of waiting or terminated
    message: str
    died: Mapping[str, Any]  # the last `terminated`, of this life or the one before
    init: bool

    @property
    def digest(self) -> str:
        """`sha256:…` of the image that runs; empty while the kubelet has not said."""
        return self.image_id.rpartition("@")[2] if "@" in self.image_id else ""


def containers(pod: Object) -> Sequence[Container]:
    """Init containers first, in the order of the spec."""
    status = pod.get("status") or {}
    found = []
    for key, init in (("initContainers", True), ("containers", False)):
        states = {item["name"]: item for item in status.get(f"{key[:-1]}Statuses") or ()}
        for spec in pod["spec"].get(key) or ():
            found.append(_container(spec["name"], states.get(spec["name"], {}), init))
    return found


def _container(name: str, status: Mapping[str, Any], init: bool) -> Container:
    state, now = next(iter((status.get("state") or {}).items()), ("unknown", None))
    now = now or {}
    before = (status.get("lastState") or {}).get("terminated") or {}
    return Container(
        name, state, bool(status.get("ready")), int(status.get("restartCount", 0)), status.get("containerID", ""),
        status.get("imageID", ""), now.get("reason", ""), " ".join(str(now.get("message", "")).split()),
        now if state == "terminated" else before, init,
    )  # fmt: skip


def digests(pod: Object) -> Mapping[str, str]:
    """Container -> digest of the image it runs."""
    return {one.name: one.digest for one in containers(pod)}


def condition(pod: Object, kind: str) -> Mapping[str, Any]:
    """The condition of that type; empty when there is none."""
    return next((item for item in (pod.get("status") or {}).get("conditions") or () if item["type"] == kind), {})


def is_ready(obj: Object) -> bool:
    """Of a pod or a node: its Ready condition is true."""
    return condition(obj, "Ready").get("status") == "True"


def controlled_by(obj: Object, uid: str) -> bool:
    """Whether the object's controller is the owner with that UID."""
    return any(owner.get("controller") and owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences", ()))


def ready_since(pod: Object) -> datetime | None:
    """When the pod last became Ready, by the server's clock; None while it is not."""
    found = condition(pod, "Ready")
    return stamp(found["lastTransitionTime"]) if found.get("status") == "True" else None


def stamp(text: str) -> datetime:
    """RFC 3339, as Kubernetes writes it."""
    return datetime.fromisoformat(text)


def terminating(pod: Object) -> bool:
    """Whether somebody asked for its end; it holds its devices until it is gone."""
    return "deletionTimestamp" in pod["metadata"]


def leaving(obj: Object) -> str:
    """`being deleted since …`, with the finalizers that hold it; empty while nobody asked for its end."""
    meta = obj["metadata"]
    if not terminating(obj):
        return ""
    held = meta.get("finalizers")
    return f"being deleted since {meta['deletionTimestamp']}" + (f", held by the finalizer {', '.join(held)}" if held else "")


def owned_by(pod: Object, owner: Object) -> bool:
    """Whether that very object (UID) is the pod's controller."""
    uid = owner["metadata"]["uid"]
    return any(ref.get("controller") and ref["uid"] == uid for ref in pod["metadata"].get("ownerReferences") or ())


def died(container: Container) -> str:
    """`OOMKilled, exit code 137, after 2s`; empty if it never did."""
    if not container.died:
        return ""
    parts = [container.died.get("reason") or "ended", f"exit code {container.died.get('exitCode')}"]
    if (lived := _lived(container)) is not None:
        parts.append(f"after {lived:.0f}s")
    return ", ".join(parts)


def _lived(container: Container) -> float | None:
    start, end = container.died.get("startedAt"), container.died.get("finishedAt")
    return (stamp(end) - stamp(start)).total_seconds() if start and end else None


def grade(pod: Object) -> Seen:
    """The pod's state in one word and one line, from the worst of its containers."""
    status = pod.get("status") or {}
    if terminating(pod):
        return Seen(Grade.DEGRADED, f"terminating since {pod['metadata']['deletionTimestamp']}")
    if status.get("phase") in ("Failed", "Succeeded"):
        return Seen(Grade.TERMINAL, _ended(pod))
    if not pod["spec"].get("nodeName"):
        return _unplaced(pod)
    found = [seen for one in containers(pod) if (seen := _graded(one))]
    worst = max(found, key=lambda seen: (Grade.STARTING, Grade.DEGRADED, Grade.TERMINAL).index(seen.grade), default=None)
    if worst is not None and worst.grade is not Grade.STARTING:
        return worst
    if since := ready_since(pod):
        return Seen(Grade.HEALTHY, f"serving since {since:%H:%M:%S} on {pod['spec']['nodeName']}")
    return worst or _not_ready(pod)


def _ended(pod: Object) -> str:
    status = pod["status"]
    said = ": ".join(part for part in (status.get("reason", ""), status.get("message", "")) if part)
    ends = ", ".join(f"{one.name} {died(one)}" for one in containers(pod) if one.died)
    return " ".join(f"{status['phase']} {said or ends}".split())


def _unplaced(pod: Object) -> Seen:
    found = condition(pod, "PodScheduled")
    reason = found.get("reason")
    if reason == "Unschedulable":
        return Seen(Grade.DEGRADED, f"Pending: {' '.join(str(found.get('message', '')).split())}", unschedulable=True)
    if reason == "SchedulingGated":
        return Seen(Grade.DEGRADED, "Pending: held back by a scheduling gate")
    return Seen(Grade.STARTING, "Pending: not scheduled yet")


def _not_ready(pod: Object) -> Seen:
    found = condition(pod, "Ready")
    if any(one.restarts for one in containers(pod)):
        last = next(one for one in containers(pod) if one.restarts)
        return Seen(Grade.STARTING, f"{last.name} runs again, not ready ({last.restarts} restarts, last {died(last)})")
    return Seen(Grade.STARTING, f"not ready on {pod['spec']['nodeName']}: {found.get('message') or 'no word of its kubelet'}")


def _graded(one: Container) -> Seen | None:
    """What this container has against the pod; None when nothing."""
    if one.state == "waiting":
        return _waiting(one)
    if one.state == "terminated" and not (one.init and one.died.get("exitCode") == 0):
        return Seen(Grade.DEGRADED, f"{one.name} ended: {died(one)}, {one.restarts} restarts")
    if one.state == "running" and one.init and not one.ready:
        return Seen(Grade.STARTING, f"init container {one.name} runs")
    return None


def _waiting(one: Container) -> Seen:
    said = f"{one.name} {one.reason or 'waiting'}" + (f": {one.message}" if one.message else "")
    if one.reason in PULLING:
        hopeless = one.reason in NEVER or (one.reason == "ImagePullBackOff" and HOPELESS_PULL.search(one.message))
        return Seen(Grade.TERMINAL if hopeless else Grade.DEGRADED, said)
    if one.reason in CONFIG:
        return Seen(Grade.TERMINAL if HOPELESS_CONFIG.search(one.message) else Grade.DEGRADED, said)
    if one.reason == "CrashLoopBackOff":
        lived = _lived(one)
        starved = one.died.get("reason") == "OOMKilled" and one.restarts >= OOM_RESTARTS
        hopeless = starved and lived is not None and lived <= START_S
        why = f"{one.name} CrashLoopBackOff: {died(one) or 'no death on record'}, {one.restarts} restarts"
        return Seen(Grade.TERMINAL if hopeless else Grade.DEGRADED, why)
    return Seen(Grade.STARTING, said)


def line_of(obj: Object) -> str:
    """One line on any object: a pod by its grade, others by their conditions and counts."""
    if obj.get("kind") == "Pod":
        return grade(obj).line
    status = obj.get("status") or {}
    return "; ".join(_facts(obj, status)) or f"at version {obj['metadata'].get('resourceVersion', 'unknown')}"


def _facts(obj: Object, status: Mapping[str, Any]) -> Iterator[str]:
    if "deletionTimestamp" in obj["metadata"]:
        yield "terminating"
    for key in ("phase", "replicas", "readyReplicas", "updatedReplicas", "succeeded", "failed"):
        if key in status:
            yield f"{key} {status[key]}"
    for item in status.get("conditions") or ():
        said = f" ({item['reason']})" if item.get("reason") else ""
        yield f"{item['type']} {item['status']}{said}"

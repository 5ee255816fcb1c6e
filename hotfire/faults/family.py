"""What every family of faults has: a target, an injector, and a witness that is not the injector."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from hotfire.errors import Unjudged
from hotfire.kube.client import Cluster, Object
from hotfire.words import Effect, Reason

CLOCK_SLACK = timedelta(seconds=1)  # Kubernetes stamps status times in whole seconds, rounded down


@dataclass(frozen=True)
class Target:
    """One container of one pod, as it was before the injection."""

    namespace: str
    pod: str
    uid: str
    container: str
    container_id: str
    restarts: int
    node: str
    owner_uid: str

    @classmethod
    def of(cls, pod: Object, container: str | None = None) -> "Target":
        """Raises Unjudged (NO_EFFECT) if the pod has no such running container: there is nothing to break."""
        meta, statuses = pod["metadata"], pod.get("status", {}).get("containerStatuses") or []
        named = [status for status in statuses if container in (None, status["name"])]
        if len(named) != 1 or "running" not in named[0].get("state", {}):
            raise Unjudged(f"pod {meta['name']} has no running container {container or ''}".rstrip(), reason=Reason.NO_EFFECT)
        owners = [owner["uid"] for owner in meta.get("ownerReferences", ()) if owner.get("controller")]
        return cls(
            meta["namespace"], meta["name"], meta["uid"], named[0]["name"], named[0]["containerID"],
            named[0].get("restartCount", 0), pod["spec"].get("nodeName", ""), owners[0] if owners else "",
        )  # fmt: skip


@dataclass(frozen=True)
class Sighting:
    """What the witness says: the effect, when it took place by the server's clock, and on what it rests."""

    effect: Effect
    at: datetime | None = None
    evidence: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def confirmed(self) -> bool:
        return self.effect is Effect.CONFIRMED


class Family(Protocol):
    """A kind of fault. Stateless: everything it knows of a fault is in the Target."""

    name: str

    def refusal(self, pod: Object, container: str) -> str:
        """Why it must not be tried on this container (blast radius); empty if it may."""

    def inject(self, cluster: Cluster, target: Target) -> dict[str, Any]:
        """Do it; the return value says what was sent, never that it worked."""

    def witness(self, cluster: Cluster, target: Target, since: datetime) -> Sighting:
        """Look once, by other eyes than the injector's. `since`: server time just before the injection."""

    def undone(self, cluster: Cluster, target: Target) -> str:
        """How it was seen that nothing of the injection is left; empty while something is, or nobody can say."""


def stamp(text: str | None) -> datetime | None:
    """RFC 3339 as Kubernetes writes it."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def inside(at: datetime | None, since: datetime) -> bool:
    """Whether an effect belongs to this injection and not to something earlier (facts: OOMKilled may be stale)."""
    return at is not None and at >= since - CLOCK_SLACK


def pods_of(cluster: Cluster, namespace: str, owner_uid: str) -> Sequence[Object]:
    """Pods whose controller is the given ReplicaSet or StatefulSet."""
    return [
        pod
        for pod in cluster.list("v1", "Pod", namespace)
        if any(owner.get("controller") and owner["uid"] == owner_uid for owner in pod["metadata"].get("ownerReferences", ()))
    ]

"""What was there before anything changed: the closure's raw objects, and the last known good by running image digests."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hotfire.journal.entries import Other
from hotfire.journal.store import Fingerprint, Stored, fingerprint, new_key
from hotfire.kube.client import Cluster, NotFound, Object, Ref
from hotfire.kube.pods import containers
from hotfire.record.events import Snapshot as SnapshotEvent
from hotfire.rollout.closure import CLAIM, closure, is_workload, unknown
from hotfire.rollout.may_differ import comparable
from hotfire.rollout.population import Population, others_of, population
from hotfire.scenario.model import Located

HASHES = ("pod-template-hash", "controller-revision-hash")


@dataclass(frozen=True)
class Snapshot:
    """before: object -> as it was, None where there was none. rested: Secrets that the run never writes.

    serving: workload of the manifests -> its pods, where there was one; unknown: kinds that the server does not have.
    """

    before: Mapping[Ref, Object | None]
    rested: Sequence[Fingerprint]
    serving: Mapping[str, Population]
    key: bytes = field(default=b"", repr=False)
    unknown: Sequence[str] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """Digests of the pods that served."""
        return tuple(sorted(set[str]().union(*(images_of(found.pods) for found in self.serving.values()))))

    @property
    def templates(self) -> Mapping[str, str]:
        """Workload -> the hash of the template that they ran."""
        return {workload: template_hash(found) for workload, found in self.serving.items()}

    @property
    def baseline(self) -> str:
        """Last known good in words: its digests, or `absent`."""
        return ", ".join(self.images) if self.images else "absent"

    def stored(self) -> Stored:
        """What a restore needs, for the journal."""
        objects = [obj for obj in self.before.values() if obj is not None]
        return Stored(objects, [ref for ref, obj in self.before.items() if obj is None], self.rested, self.key)

    def event(self) -> SnapshotEvent:
        """For the record: identities and digests, no contents."""
        rows = [_row(ref, obj, self.key) for ref, obj in self.before.items()]
        rows += [{"object": f"secret/{one.name}", "uid": one.uid, "resourceVersion": one.resource_version, "hmac": one.hmac}
                 for one in self.rested]  # fmt: skip
        whole = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
        return SnapshotEvent(objects=tuple(rows), digest=whole, left_out=tuple(self._left_out()))

    def _left_out(self) -> Iterator[str]:
        """What no restore puts back, whoever changes it."""
        there = {ref: obj for ref, obj in self.before.items() if obj is not None}
        yield from (f"the contents of {ref}" for ref in there if ref.kind == CLAIM)
        made = [ref for ref, obj in there.items() if (obj.get("spec") or {}).get("volumeClaimTemplates")]
        yield from (f"the contents of the claims that {ref} makes" for ref in made)
        others = [ref for ref, found in self.serving.items() if found.ready is not None]
        yield from (f"what the controller of {ref} makes of its spec" for ref in others)
        yield from (f"the values of secret/{one.name}: a change is seen, not undone" for one in self.rested)
        yield from (f"{kind}: the API server has no such kind" for kind in self.unknown)


def _row(ref: Ref, obj: Object | None, key: bytes) -> Object:
    if obj is None:
        return {"object": str(ref), "absent": True}
    meta = obj["metadata"]
    row = {"object": str(ref), "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    if ref.kind == "Secret":  # a plain digest of a short secret could be guessed at
        return {**row, "hmac": fingerprint(obj, key).hmac}
    return {**row, "digest": hashlib.sha256(json.dumps(comparable(obj), sort_keys=True).encode()).hexdigest()}


def take(cluster: Cluster, located: Located, namespace: str) -> Snapshot:
    """Read the closure once. Objects are kept whole; of Secrets only those that the manifests write."""
    before: dict[Ref, Object | None] = {}
    secrets: list[Object] = []
    for ref, ours in closure(cluster, located, namespace).items():
        live = cluster.find(ref)
        if ours or (live is not None and ref.kind != "Secret"):
            before[ref] = live
        elif live is not None:
            secrets.append(live)
    key = new_key() if secrets or any(ref.kind == "Secret" for ref in before) else b""
    others = others_of(located.scenario, namespace)
    workloads = [ref for ref in before if is_workload(ref, others)]
    serving = {str(ref): found for ref in workloads if (found := running(cluster, ref, others.get(ref))) is not None}
    return Snapshot(before, [fingerprint(one, key) for one in secrets], serving, key, tuple(unknown(cluster)))


def running(cluster: Cluster, ref: Ref, other: Other | None = None) -> Population | None:
    """The workload's pods now; None when there is no such workload."""
    try:
        return population(cluster, ref, other)
    except NotFound:
        return None


def images_of(pods: Sequence[Object]) -> set[str]:
    """Digests of the images that these pods run, as the kubelet reports them; of an image that no registry gave, its id."""
    return {one.digest or one.image_id for pod in pods for one in containers(pod)} - {""}


def template_hash(found: Population) -> str:
    """The hash by which the controller labels pods of the newest template; empty while there is no pod."""
    hashes = {pod["metadata"].get("labels", {}).get(label, "") for pod in found.pods for label in HASHES} - {""}
    return hashes.pop() if len(hashes) == 1 else ""

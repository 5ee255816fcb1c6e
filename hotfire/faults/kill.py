"""kill: one pod. The pod is deleted by UID with a grace of one second, as an eviction in a hurry would."""

from datetime import datetime
from typing import Any

from hotfire.faults.family import Sighting, Target, inside, pods_of, stamp
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.words import Effect

GRACE = 1  # seconds; 0 would drop the API object before the kubelet ended the process (facts: faults 2.2, force delete)


class KillOnePod:
    """Witness: the kubelet let the UID go, and the owning controller made another pod inside the window."""

    name = "kill"

    def refusal(self, pod: Object, container: str) -> str:
        owned = any(owner.get("controller") for owner in pod["metadata"].get("ownerReferences", ()))
        return "" if owned else f"pod {pod['metadata']['name']} has no controller that would replace it"

    def inject(self, cluster: Cluster, target: Target) -> dict[str, Any]:
        cluster.delete(Ref("v1", "Pod", target.namespace, target.pod), uid=target.uid, grace=GRACE)
        return {"deleted": target.pod, "uid": target.uid, "grace_s": GRACE}

    def witness(self, cluster: Cluster, target: Target, since: datetime) -> Sighting:
        """Two observers: the API object under that UID is gone, which only the kubelet's report allows with a grace
        above zero, and the ReplicaSet controller counted one pod less and created another."""
        siblings = pods_of(cluster, target.namespace, target.owner_uid)
        if any(pod["metadata"]["uid"] == target.uid for pod in siblings):
            return Sighting(Effect.NO_EFFECT, evidence=(f"pod {target.pod} ({target.uid}) is still there",))
        made = [(stamp(pod["metadata"]["creationTimestamp"]), pod["metadata"]) for pod in siblings]
        new = [(at, meta) for at, meta in made if at and inside(at, since)]
        if not new:
            return Sighting(Effect.NOT_APPLIED, evidence=(f"{target.pod} is gone, its controller made no other pod",))
        at, meta = min(new, key=lambda pair: pair[0])
        lines = (f"uid {target.uid} is gone", f"{meta['name']} ({meta['uid']}) was created by the same controller")
        return Sighting(Effect.CONFIRMED, at, lines, {"successor": meta["name"], "successor_uid": meta["uid"]})

    def undone(self, cluster: Cluster, target: Target) -> str:
        """Nothing stays behind of a deletion: the pod is gone, or was never deleted."""
        pod = cluster.find(Ref("v1", "Pod", target.namespace, target.pod))
        if pod is None or pod["metadata"]["uid"] != target.uid:
            return f"{target.pod} ({target.uid}) is gone, nothing else was touched"
        return "" if pod["metadata"].get("deletionTimestamp") else f"{target.pod} was never deleted"

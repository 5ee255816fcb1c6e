"""Which pods are this rollout's: followed from the workload's UID and generation, never from a name or a label alone.

Deployment: UID -> ReplicaSet owned by it whose revision is the Deployment's, once its generation was observed -> pods owned
by that ReplicaSet. StatefulSet: UID -> pods owned by it that carry status.updateRevision. Another kind: pods with the labels
that the scenario names, and of them those that its controller marked with the newest revision (revision.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hotfire.errors import HarnessError
from hotfire.journal.entries import Other
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.kube.pods import controlled_by
from hotfire.rollout.revision import marked, marks
from hotfire.scenario.model import Scenario
from hotfire.scenario.serves import Serves

REVISION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class Population:
    """The pods of the workload's newest template (`pods`) and all others that its Service could still reach."""

    workload: Object
    owner_uid: str  # of the ReplicaSet (Deployment) or the workload itself; empty while the controller has not acted
    pods: tuple[Object, ...]  # not terminating
    leaving: tuple[Object, ...]  # of this template, terminating
    others: tuple[Object, ...]  # of older templates, terminating or not
    ready: int | None = None  # another kind: how many are wanted

    @property
    def wanted(self) -> int:
        return int(self.workload["spec"].get("replicas", 1)) if self.ready is None else self.ready


def ref_of(serves: Serves, namespace: str) -> Ref:
    """The workload of an API."""
    return Ref(serves.api_version, serves.kind, namespace, serves.name)


def serving(cluster: Cluster, serves: Serves, namespace: str) -> Population:
    """The pods of an API. Raises NotFound when its workload is gone."""
    return population(cluster, ref_of(serves, namespace), _other(serves, namespace))


def others_of(scenario: Scenario, namespace: str) -> dict[Ref, Other]:
    """Workloads that are neither Deployment nor StatefulSet."""
    found = (_other(one, namespace) for one in scenario.candidate.serves)
    return {one.ref: one for one in found if one is not None}


def _other(serves: Serves, namespace: str) -> Other | None:
    ref = ref_of(serves, namespace)
    return Other.of(ref, pods=serves.labels, ready=serves.ready) if serves.ready is not None else None


def population(cluster: Cluster, ref: Ref, other: Other | None = None) -> Population:
    """Read it once. other: what is known of it where it is of another kind. Raises NotFound when the workload is gone."""
    workload = cluster.get(ref)
    if other is not None:
        return _of_other(cluster, workload, other)
    uid = workload["metadata"]["uid"]
    pods = cluster.list("v1", "Pod", ref.namespace)
    if ref.kind == "StatefulSet":
        mine = [pod for pod in pods if controlled_by(pod, uid)]
        revision = workload.get("status", {}).get("updateRevision") if _observed(workload) else None
        new = [pod for pod in mine if pod["metadata"].get("labels", {}).get("controller-revision-hash") == revision]
        return _sorted(workload, uid if revision else "", new, mine)
    sets = [item for item in cluster.list("apps/v1", "ReplicaSet", ref.namespace) if controlled_by(item, uid)]
    uids = {item["metadata"]["uid"] for item in sets}
    mine = [pod for pod in pods if any(controlled_by(pod, owner) for owner in uids)]
    newest = _newest(workload, sets)
    return _sorted(workload, newest, [pod for pod in mine if controlled_by(pod, newest)], mine)


def _of_other(cluster: Cluster, workload: Object, other: Other) -> Population:
    mine = selected(cluster, other.namespace, other.pods)
    known = marks(cluster, workload)
    told = "observedGeneration" in (workload.get("status") or {})
    uid = workload["metadata"]["uid"] if known and (_observed(workload) or not told) else ""
    found = _sorted(workload, uid, [pod for pod in mine if uid and marked(pod, known, workload)], mine)
    return replace(found, ready=other.ready)


def _observed(workload: Object) -> bool:
    return int(workload.get("status", {}).get("observedGeneration", 0)) >= int(workload["metadata"]["generation"])


def _newest(workload: Object, sets: Sequence[Object]) -> str:
    revision = workload["metadata"].get("annotations", {}).get(REVISION)
    if not _observed(workload) or revision is None:
        return ""
    found = [item for item in sets if item["metadata"].get("annotations", {}).get(REVISION) == revision]
    return str(found[0]["metadata"]["uid"]) if len(found) == 1 else ""


def _sorted(workload: Object, owner: str, new: Sequence[Object], mine: Sequence[Object]) -> Population:
    names = {pod["metadata"]["uid"] for pod in new}
    staying = tuple(pod for pod in new if "deletionTimestamp" not in pod["metadata"])
    leaving = tuple(pod for pod in new if "deletionTimestamp" in pod["metadata"])
    return Population(workload, owner, staying, leaving, tuple(pod for pod in mine if pod["metadata"]["uid"] not in names))


def selected(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> list[Object]:
    """Pods that carry the labels, terminating ones too, whether or not a workload is there for them."""
    if not labels:
        raise HarnessError("an empty selector would match every pod")
    return cluster.list("v1", "Pod", namespace, ",".join(f"{key}={value}" for key, value in sorted(labels.items())))


def endpoints(cluster: Cluster, namespace: str, service: str) -> list[Object]:
    """The addresses behind a Service, as EndpointSlice entries (targetRef, conditions)."""
    slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", namespace, labels=f"kubernetes.io/service-name={service}")
    return [endpoint for item in slices for endpoint in item.get("endpoints") or ()]

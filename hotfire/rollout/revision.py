"""Which pods are of the spec of now, where neither a ReplicaSet nor a StatefulSet's status tells: by ControllerRevisions.

A controller that keeps a history of its workload (DaemonSet, LeaderWorkerSet, OpenKruise's) writes a ControllerRevision for
each change and marks its pods with its name or its hash. The newest one counts once it says what the spec says now: until then
the controller has not acted. Of a kind without such a history nobody knows which pods are of which spec, and none is taken for
one of it.
"""

from collections.abc import Mapping

from hotfire.kube.client import Cluster, Object
from hotfire.kube.pods import controlled_by
from hotfire.scenario.images import is_template, templates


def marks(cluster: Cluster, workload: Object) -> frozenset[str]:
    """Values of the labels by which pods of the newest revision are known; empty while it is not of the spec of now."""
    meta = workload["metadata"]
    kept = [one for one in cluster.list("apps/v1", "ControllerRevision", meta["namespace"]) if controlled_by(one, meta["uid"])]
    if not kept:
        return frozenset()
    newest = max(kept, key=lambda one: int(one["revision"]))
    said = ((newest.get("data") or {}).get("spec")) or {}
    if not said or not _says(said, workload["spec"]):
        return frozenset()
    shared = _template_labels(workload)  # what a template says all its revisions may have
    labels = (newest["metadata"].get("labels") or {}).items()
    return frozenset({newest["metadata"]["name"], *(value for key, value in labels if "hash" in key and key not in shared)})


def marked(pod: Object, marks: frozenset[str], workload: Object) -> bool:
    """Whether the pod carries one of them, in a label that no template sets."""
    shared = _template_labels(workload)
    labels = (pod["metadata"].get("labels") or {}).items()
    return any(value in marks for key, value in labels if ("hash" in key or "revision" in key) and key not in shared)


def _template_labels(workload: Object) -> set[str]:
    return {key for one in templates(workload) for key in (one.get("metadata") or {}).get("labels") or ()}


def _says(said: Mapping[str, object], live: object) -> bool:
    """Whether the spec is what a revision holds of it: pod templates exactly; of what is around them a controller may leave out
    what makes no new pods."""
    if not isinstance(live, Mapping):
        return False
    for key, value in said.items():
        if key == "$patch":
            continue
        if isinstance(value, Mapping) and not is_template(value):
            if not _says(value, live.get(key)):
                return False
        elif _plain(value) != _plain(live.get(key)):
            return False
    return True


def _plain(value: object) -> object:
    """Less what is null, and the marker by which a revision is applied."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if one is not None and key != "$patch"}
    return [_plain(one) for one in value] if isinstance(value, list) else value

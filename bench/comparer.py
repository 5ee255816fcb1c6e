"""Is what is there exactly what was there? A judge of hotfire that shares nothing with it: no code, no list, no client.

It looks at raw objects as kubectl prints them. What may differ is written down here from the conventions of the Kubernetes
API (who writes which field), not from what hotfire leaves out; tests/unit/test_comparer.py shows that the two lists agree.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]
Key = tuple[str, str]

# Written by the API server or by controllers, never by the owner of the object. A path ends here, with all below it.
KEPT_BY_THE_SERVER: dict[Path, str] = {
    ("status",): "a report of what is; the owner's intent is in the rest",
    ("metadata", "resourceVersion"): "of the last write, whatever it wrote",
    ("metadata", "generation"): "the number of changes to the intent",
    ("metadata", "managedFields"): "who wrote what: compared by `ownership`",
    ("metadata", "uid"): "an identity for one life: `recreated` tells",
    ("metadata", "creationTimestamp"): "the beginning of that life",
    ("metadata", "selfLink"): "empty since Kubernetes 1.20",
    ("metadata", "annotations", "deployment.kubernetes.io/revision"): "the Deployment controller's counter",
    ("metadata", "annotations", "deprecated.daemonset.template.generation"): "the API server's counter of a DaemonSet",
}
KEPT_BY_THE_BINDER: dict[Path, str] = {
    ("spec", "volumeName"): "the volume a claim got",
    ("metadata", "annotations", "pv.kubernetes.io/bind-completed"): "set when it is bound",
    ("metadata", "annotations", "pv.kubernetes.io/bound-by-controller"): "set when it is bound",
    ("metadata", "annotations", "volume.kubernetes.io/storage-provisioner"): "set while it is being bound",
    ("metadata", "annotations", "volume.kubernetes.io/selected-node"): "set by the scheduler",
}
ALLOTTED: tuple[Path, ...] = (  # differs from one creation to the next: left out where two creations are compared
    ("metadata", "namespace"),
    ("spec", "clusterIP"),
    ("spec", "clusterIPs"),
    ("metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"),
)
DERIVED = ("Pod", "ReplicaSet", "EndpointSlice", "Endpoints", "Event", "ControllerRevision")  # made by controllers
GIVEN = (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default"))  # every namespace gets them, at some moment
RUN_LABEL = "hotfire.dev/run"


def key(obj: Object) -> Key:
    """Kind and name."""
    return obj["kind"], obj["metadata"]["name"]


# -- one object -------------------------------------------------------------------------------------------------------


def leaves(obj: Object, *, autoscaled: bool = False, of_another_creation: bool = False) -> dict[Path, object]:
    """Path -> value of everything the owner of an object has a say in."""
    out = set(KEPT_BY_THE_SERVER)
    if obj["kind"] == "PersistentVolumeClaim":
        out |= set(KEPT_BY_THE_BINDER)
    if autoscaled:
        out.add(("spec", "replicas"))
    if of_another_creation:
        out |= set(ALLOTTED)
    return dict(_walk(obj, (), out))


def _walk(value: object, path: Path, out: set[Path]) -> Iterator[tuple[Path, object]]:
    if path in out:
        return
    if isinstance(value, dict) and (value or path[:1] == ("metadata",) or not path):
        for name, below in value.items():
            yield from _walk(below, (*path, name), out)
    elif isinstance(value, list) and (value or path[:1] == ("metadata",)):
        for index, below in enumerate(value):
            yield from _walk(below, (*path, str(index)), out)
    elif not (path[:1] == ("metadata",) and len(path) == 2 and value in (None, "")):
        yield path, json.dumps(value)  # 1, 1.0 and True are not the same on the wire


def differences(before: Object, after: Object, *, autoscaled: bool = False, of_another_creation: bool = False) -> list[str]:
    """The paths at which two states of an object are not the same; values only where they are no Secret's."""
    one = leaves(before, autoscaled=autoscaled, of_another_creation=of_another_creation)
    two = leaves(after, autoscaled=autoscaled, of_another_creation=of_another_creation)
    hidden = before["kind"] == "Secret"
    return [
        f"{'/'.join(key(before))} {'.'.join(path)}" + ("" if hidden else f": {one.get(path)} -> {two.get(path)}"[:160])
        for path in sorted(one.keys() | two.keys())
        if one.get(path) != two.get(path)
    ]


def ownership(obj: Object) -> list[str]:
    """Which manager owns which fields; without times, and without what controllers report as status."""
    return sorted(
        json.dumps(
            [entry.get(name) for name in ("manager", "operation", "apiVersion", "subresource", "fieldsV1")], sort_keys=True
        )
        for entry in obj["metadata"].get("managedFields") or ()
        if entry.get("subresource") != "status"
    )


def recreated(before: Object, after: Object) -> bool:
    """Whether it is another object of the same name."""
    return bool(before["metadata"]["uid"] != after["metadata"]["uid"])


# -- a namespace ------------------------------------------------------------------------------------------------------


def intended(objects: Sequence[Object]) -> dict[Key, Object]:
    """What somebody made on purpose, the tombstone and the Lease of hotfire aside."""
    return {
        key(obj): obj
        for obj in objects
        if obj["kind"] not in DERIVED and obj["kind"] != "Lease" and key(obj) not in GIVEN and not is_tombstone(obj)
    }


def is_tombstone(obj: Object) -> bool:
    """The one ConfigMap that a run leaves."""
    return (
        obj["kind"] == "ConfigMap" and obj["metadata"]["name"].startswith("hotfire-") and "journal" in (obj.get("data") or {})
    )


def not_old(before: Sequence[Object], after: Sequence[Object]) -> list[str]:
    """Why a namespace is not exactly as it was; empty when it is."""
    was, now = intended(before), intended(after)
    scaled = _autoscaled(after)
    wrong = [f"{'/'.join(one)} is gone" for one in was.keys() - now.keys()]
    wrong += [f"{'/'.join(one)} was not there" for one in now.keys() - was.keys()]
    for one in sorted(was.keys() & now.keys()):
        wrong += differences(was[one], now[one], autoscaled=one in scaled)
        if ownership(was[one]) != ownership(now[one]):
            wrong.append(f"{'/'.join(one)} metadata.managedFields")
    return wrong + population(after)


def not_new(before: Sequence[Object], after: Sequence[Object], asked: Sequence[Object]) -> list[str]:
    """Why a namespace is not exactly the candidate beside what was there anyway; asked: as a plain creation makes it."""
    was, now, new = intended(before), intended(after), intended(asked)
    scaled = _autoscaled(after)
    wrong = [f"{'/'.join(one)} is gone" for one in (was.keys() | new.keys()) - now.keys()]
    wrong += [f"{'/'.join(one)} is neither old nor asked for" for one in now.keys() - was.keys() - new.keys()]
    for one in sorted(now.keys() & new.keys()):
        wrong += differences(new[one], now[one], autoscaled=one in scaled, of_another_creation=True)
    for one in sorted((now.keys() & was.keys()) - new.keys()):
        wrong += differences(was[one], now[one], autoscaled=one in scaled)
    return wrong + population(after)


def _autoscaled(objects: Sequence[Object]) -> set[Key]:
    targets = [obj["spec"]["scaleTargetRef"] for obj in objects if obj["kind"] == "HorizontalPodAutoscaler"]
    return {(target["kind"], target["name"]) for target in targets}


def population(objects: Sequence[Object]) -> list[str]:
    """Why the pods are not exactly those of the Deployments as they stand: all there, all ready, nobody else, none leaving."""
    wrong: list[str] = []
    sets = {obj["metadata"]["uid"]: obj for obj in objects if obj["kind"] == "ReplicaSet"}
    pods = [obj for obj in objects if obj["kind"] == "Pod"]
    mine: set[str] = set()
    for deployment in (obj for obj in objects if obj["kind"] == "Deployment"):
        name, uid = deployment["metadata"]["name"], deployment["metadata"]["uid"]
        right = {own for own, one in sets.items() if _belongs(one, uid) and _template(one) == deployment["spec"]["template"]}
        its = [pod for pod in pods if any(_belongs(pod, own) for own in right)]
        mine |= {pod["metadata"]["uid"] for pod in its}
        wanted = deployment["spec"].get("replicas", 1)
        wrong += [f"Deployment/{name} has {len(its)} pods, {wanted} are asked for"] if len(its) != wanted else []
        wrong += [f"Pod/{pod['metadata']['name']} is leaving" for pod in its if pod["metadata"].get("deletionTimestamp")]
        wrong += [f"Pod/{pod['metadata']['name']} is not ready" for pod in its if not ready(pod)]
    wrong += [
        f"Pod/{pod['metadata']['name']} is of no Deployment as it stands" for pod in pods if pod["metadata"]["uid"] not in mine
    ]
    return wrong


def ready(pod: Object) -> bool:
    """As its kubelet says."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod.get("status", {}).get("conditions") or ())


def _belongs(obj: Object, uid: str) -> bool:
    return any(owner["uid"] == uid and owner.get("controller") for owner in obj["metadata"].get("ownerReferences") or ())


def _template(replica_set: Object) -> Object:
    template = json.loads(json.dumps(replica_set["spec"]["template"]))
    template["metadata"].get("labels", {}).pop("pod-template-hash", None)
    return dict(template)


def orphans(before: Sequence[Object], after: Sequence[Object], asked: Sequence[Object] = ()) -> list[str]:
    """What a run left but for its tombstone: its label on anything, an object nobody asked for, a Lease that is held."""
    known: set[Key] = {key(obj) for obj in (*before, *asked)}
    left = []
    for obj in after:
        labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
        name = "/".join(key(obj))
        if obj["kind"] == "Lease":
            left += [f"{name} is held by {obj['spec']['holderIdentity']}"] if obj["spec"].get("holderIdentity") else []
        elif RUN_LABEL in labels:
            left.append(f"{name} carries the label of run {labels[RUN_LABEL]}")
        elif obj["kind"] not in DERIVED and key(obj) not in known and key(obj) not in GIVEN and not is_tombstone(obj):
            left.append(f"{name} was left")
    return left

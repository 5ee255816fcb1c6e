"""Everything a rollout may touch or rests on: what the manifests write, what the pods refer to, what points at the workload."""

from collections.abc import Collection, Iterator, Sequence

from hotfire.kube.client import Cluster, Object, Ref, UnknownKind
from hotfire.kube.fit import selects
from hotfire.rollout.helm import releases
from hotfire.rollout.population import ref_of
from hotfire.scenario.images import templates
from hotfire.scenario.model import Located

CONFIG = ("ServiceAccount", "Secret", "ConfigMap", "PersistentVolumeClaim", "Service")  # applied before what uses them
CLAIM = "PersistentVolumeClaim"  # made if asked for, never changed, never deleted
WORKLOADS = ("Deployment", "StatefulSet")
SCALER = ("autoscaling/v2", "HorizontalPodAutoscaler")
POINTING = (  # kinds that act on a workload without being named by it
    SCALER,
    ("v1", "Service"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.k8s.io/v1", "Ingress"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
)


def is_workload(ref: Ref, others: Collection[Ref]) -> bool:
    """others: those that are neither Deployment nor StatefulSet."""
    return ref.kind in WORKLOADS or ref in others


def rank(kind: str) -> int:
    """Where a kind stands in the order of applying: configuration, then the rest, workloads last."""
    return CONFIG.index(kind) if kind in CONFIG else len(CONFIG) + (kind in WORKLOADS)


def written(located: Located, namespace: str) -> list[Object]:
    """The manifests' objects in the order in which they are applied; nothing in them that only a server can say."""
    objects: list[Object] = []
    for obj in located.objects:
        meta = {key: value for key, value in dict(obj["metadata"]).items() if key != "creationTimestamp"}  # type: ignore[call-overload]
        plain = {key: value for key, value in obj.items() if key != "status"}
        objects.append({**plain, "metadata": {**meta, "namespace": namespace}})
    return sorted(objects, key=lambda obj: rank(obj["kind"]))


def referred(workload: Object, namespace: str) -> Iterator[Ref]:
    """ConfigMaps, Secrets, claims and the ServiceAccount that a workload's pods name, in whichever of its pod templates."""
    for template in templates(workload):
        yield from _named(template["spec"], namespace)


def _named(spec: Object, namespace: str) -> Iterator[Ref]:
    yield Ref("v1", "ServiceAccount", namespace, spec.get("serviceAccountName") or "default")
    for secret in spec.get("imagePullSecrets") or ():
        yield Ref("v1", "Secret", namespace, secret["name"])
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        sources = [item.get("valueFrom") or {} for item in container.get("env") or ()] + list(container.get("envFrom") or ())
        for source in sources:
            for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                if named := (source.get(f"{key}KeyRef") or source.get(f"{key}Ref")):
                    yield Ref("v1", kind, namespace, named["name"])
    for volume in spec.get("volumes") or ():
        for part in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            if part.get("configMap"):
                yield Ref("v1", "ConfigMap", namespace, part["configMap"]["name"])
            if part.get("secret"):
                yield Ref("v1", "Secret", namespace, part["secret"].get("secretName") or part["secret"]["name"])
        if claim := volume.get("persistentVolumeClaim"):
            yield Ref("v1", "PersistentVolumeClaim", namespace, claim["claimName"])


def pointing_at(cluster: Cluster, namespace: str, workload: Object, service: str = "") -> Iterator[Ref]:
    """What scales, guards, fences or routes to the workload; kinds that the server does not have are passed over."""
    labelled = [(template.get("metadata") or {}).get("labels") or {} for template in templates(workload)]
    me = (workload["kind"], workload["metadata"]["name"])
    for api_version, kind in POINTING:
        yield from (Ref.of(obj) for obj in _known(cluster, api_version, kind, namespace) if _points(obj, me, labelled, service))


def autoscaled(cluster: Cluster, *states: Object) -> bool:
    """Whether an autoscaler owns the replicas of a workload, in each of its states: one at zero is left alone by every one."""
    live, me = states[0], (states[0]["kind"], states[0]["metadata"]["name"])
    if live["kind"] not in WORKLOADS or not all(state["spec"].get("replicas", 1) for state in states):
        return False
    return any(_points(obj, me, (), "") for obj in _known(cluster, *SCALER, live["metadata"]["namespace"]))


def _points(obj: Object, me: tuple[str, str], labelled: Sequence[dict[str, str]], service: str) -> bool:
    spec, kind = obj.get("spec") or {}, obj["kind"]
    if kind == "HorizontalPodAutoscaler":
        return (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) == me
    if kind == "Service":
        return bool(spec.get("selector")) and any(selects({"matchLabels": spec["selector"]}, labels) for labels in labelled)
    if kind == "PodDisruptionBudget":
        return any(selects(spec.get("selector"), labels) for labels in labelled)
    if kind == "NetworkPolicy":
        return any(selects(spec.get("podSelector") or {}, labels) for labels in labelled)
    return bool(service) and service in _backends(spec)


def _backends(spec: Object) -> set[str]:
    """Names of the Services that an Ingress or an HTTPRoute sends requests to."""
    found = {((spec.get("defaultBackend") or {}).get("service") or {}).get("name", "")}
    for rule in spec.get("rules") or ():
        found |= {path["backend"].get("service", {}).get("name", "") for path in (rule.get("http") or {}).get("paths") or ()}
        found |= {back["name"] for back in rule.get("backendRefs") or () if back.get("kind", "Service") == "Service"}
    return found - {""}


def _known(cluster: Cluster, api_version: str, kind: str, namespace: str) -> Sequence[Object]:
    """Of a kind that the server may not have. Raises Forbidden: what cannot be seen cannot be put back."""
    try:
        return cluster.list(api_version, kind, namespace)
    except UnknownKind:
        return ()


def unknown(cluster: Cluster) -> Iterator[str]:
    """Kinds that could point at the workload and that the server has not, or not in the version that is looked for."""
    for api_version, kind in POINTING:
        try:
            cluster.resource(api_version, kind)
        except UnknownKind:
            yield f"{kind} of {api_version}"


def closure(cluster: Cluster, located: Located, namespace: str) -> dict[Ref, bool]:
    """Every object of the closure -> whether the manifests, or Helm with them, write it; the others are only rested on."""
    mine = {Ref.of(obj): obj for obj in written(located, namespace)}
    found: dict[Ref, bool] = dict.fromkeys(mine, True)
    for serves in located.scenario.candidate.serves:
        ref = ref_of(serves, namespace)
        found.setdefault(Ref("v1", "Service", namespace, serves.service), False)
        for workload in filter(None, (mine.get(ref), cluster.find(ref))):
            for other in (*referred(workload, namespace), *pointing_at(cluster, namespace, workload, serves.service)):
                found.setdefault(other, False)
    for ref in [ref for ref in found if ref.kind in ("ServiceAccount", "Ingress")]:
        for obj in filter(None, (mine.get(ref), cluster.find(ref))):
            for name in _secrets(obj):
                found.setdefault(Ref("v1", "Secret", namespace, name), False)
    if located.scenario.by_pipeline:
        live = filter(None, map(cluster.find, [ref for ref, ours in found.items() if ours]))
        found |= {Ref.of(one): True for one in releases(cluster, namespace, live)}
    return found


def _secrets(obj: Object) -> Iterator[str]:
    """Names of those by which a ServiceAccount's pods pull and an Ingress speaks TLS."""
    yield from (one["name"] for one in obj.get("imagePullSecrets") or ())
    yield from (one["secretName"] for one in (obj.get("spec") or {}).get("tls") or () if one.get("secretName"))

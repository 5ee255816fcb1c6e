"""What the run's identity must be allowed to do, and what for. `hotfire` asks before it touches anything."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hotfire.kube.client import Cluster, Ref
from hotfire.rollout.closure import CLAIM
from hotfire.rollout.sync import KINDS
from hotfire.scenario.model import Located

CLOSURE = {  # kinds a manifest may hold, or that its workloads rest on -> (group, resource)
    "ConfigMap": ("", "configmaps"),
    "Deployment": ("apps", "deployments"),
    "HTTPRoute": ("gateway.networking.k8s.io", "httproutes"),
    "HorizontalPodAutoscaler": ("autoscaling", "horizontalpodautoscalers"),
    "Ingress": ("networking.k8s.io", "ingresses"),
    "NetworkPolicy": ("networking.k8s.io", "networkpolicies"),
    "PersistentVolumeClaim": ("", "persistentvolumeclaims"),
    "PodDisruptionBudget": ("policy", "poddisruptionbudgets"),
    "Secret": ("", "secrets"),
    "Service": ("", "services"),
    "ServiceAccount": ("", "serviceaccounts"),
    "StatefulSet": ("apps", "statefulsets"),
}
LOOK, WRITE = ("get", "list", "watch"), ("get", "list", "create", "update", "patch", "delete")


@dataclass(frozen=True)
class Right:
    """One verb on one resource in the run's namespace, or in another; namespaced is false for Nodes and Namespaces."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespaced: bool = True
    namespace: str = ""
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        return (
            f"{self.verb} {self.resource}{'/' * bool(self.subresource)}{self.subresource}{'.' * bool(self.group)}{self.group}"
        )


REVISIONS = Right("list", "controllerrevisions", "apps", why="which pods are of the spec of now, of other kinds")


def rights(located: Located) -> list[Right]:
    """Every right the run needs, in a fixed order."""
    return _once(_needed(located))


def _once(found: Iterator[Right]) -> list[Right]:
    """Without doubles, each with the first reason given."""
    seen: dict[tuple[str, str], Right] = {}
    for right in found:
        seen.setdefault((str(right), right.namespace), right)
    return list(seen.values())


def _needed(located: Located) -> Iterator[Right]:
    scenario = located.scenario
    for verb in (*LOOK, "create", "delete"):
        yield Right(verb, "pods", why="to grade the candidate and to ask with probe pods")
    for resource in ("events", "endpoints"):
        yield Right("list", resource, why="evidence")
    yield Right("get", "pods", subresource="log", why="evidence, and Secrets that must not be in logs")
    yield Right("create", "pods", subresource="exec", why="devices, Secrets and faults are looked at from inside")
    yield Right("create", "services", subresource="proxy", why="what serves is asked, before and after")
    if scenario.guarded:
        yield Right("get", "pods", subresource="proxy", why="users' requests are counted by the pods' own counters")
    if any("metrics" in secret.never_in for secret in scenario.injected):
        yield Right("get", "pods", subresource="proxy", why="Secrets that must not be on a metrics page")
    for gateway in (serves.counted_by for serves in scenario.guarded if serves.counted_by):
        for verb, what in (("list", ""), ("get", "proxy")):
            yield Right(verb, "pods", subresource=what, namespace=gateway.namespace, why="counted_by: the gateway's counters")
    yield Right("list", "endpointslices", "discovery.k8s.io", why="who is behind the Service")
    yield Right("list", "replicasets", "apps", why="which pods are this rollout's")
    for verb in ("get", "list"):
        yield Right(verb, "nodes", namespaced=False, why="where a pod may land")
    yield Right("list", "resourcequotas", why="they must have room for the way there and for the way back")
    for verb in WRITE:
        yield Right(verb, "configmaps", why="the journal")
        yield Right(verb, "services", why="the run's own way to the candidate")
    for resource in ("serviceaccounts", "persistentvolumeclaims"):
        yield Right("get", resource, why="the snapshot of what pods rest on")
    for verb in ("get", "list", "create", "update"):
        yield Right(verb, "leases", "coordination.k8s.io", why="the lock")
    yield Right("get", "secrets", why="redaction")
    for verb in ("list", "create", "delete"):
        yield Right(verb, "secrets", why="the snapshot of Secrets beside the journal")
    if any(serves.ready for serves in scenario.candidate.serves):
        yield REVISIONS
    for obj in located.objects:
        group, resource = CLOSURE[str(obj["kind"])] if _of_closure(obj) else ("", "")
        for verb in WRITE if resource else ():
            yield Right(verb, resource, group, why=f"the manifests hold a {obj['kind']}")
    if scenario.load is not None and scenario.load.from_ == "cluster":
        for verb in ("get", "create", "delete"):
            yield Right(verb, "jobs", "batch", why="load: from: cluster")
        yield Right("create", "pods", subresource="attach", why="load: from: cluster is led by its input and output")
        for verb in ("create", "delete") if scenario.load.workers > 1 else ():
            yield Right(verb, "networkpolicies", "networking.k8s.io", why="load: workers: nobody else reaches their master")
    if scenario.reach.via == "ingress":
        for verb in ("get", "list"):
            yield Right(verb, "ingresses", "networking.k8s.io", why="reach: via: ingress")
    yield from _closure()
    if scenario.stand.create:
        for verb in ("create", "delete"):
            yield Right(verb, "namespaces", namespaced=False, why="stand.create")
    if scenario.stand.image:
        for verb in ("get", "list", "create", "delete"):
            yield Right(verb, "jobs", "batch", why="the watchdog")
        yield Right("delete", "leases", "coordination.k8s.io", why="the watchdog's own, in the end")


HELPFUL = (  # granted, not required: without them a run says what it cannot know
    Right("list", "pods", namespaced=False, why="what pods of other namespaces hold is not free"),
    Right("get", "persistentvolumes", namespaced=False, why="from which nodes a claim can be mounted"),
)
SWEPT = tuple(kind for kind in CLOSURE if kind != CLAIM)


def _closure() -> Iterator[Right]:
    """To see the whole of it, to mark it when the run is taken over, to put it back; a claim is never written."""
    for kind, (group, resource) in CLOSURE.items():
        for verb in ("get", "list", *(("create", "update") if kind != CLAIM else ())):
            yield Right(verb, resource, group, why="the closure is seen whole, and put back")


def watchdog_rights(located: Located) -> list[Right]:
    """What the watchdog needs: to put back, to take away, to prove. It deploys nothing and runs nothing in a pod."""
    return _once(_watching(located))


def _watching(located: Located) -> Iterator[Right]:
    written = {str(obj["kind"]) for obj in located.objects if _of_closure(obj)}
    if any(serves.ready for serves in located.scenario.candidate.serves):
        yield REVISIONS
    for verb in ("get", "list", "delete"):
        yield Right(verb, "pods", why="pods that serve, and those to be replaced")
    yield Right("list", "replicasets", "apps", why="which pods are of which template")
    yield Right("list", "endpointslices", "discovery.k8s.io", why="who is behind the Service")
    yield Right("create", "services", subresource="proxy", why="what serves is asked")
    for verb in ("get", "create", "update", "delete"):
        yield Right(verb, "leases", "coordination.k8s.io", why="the lock, and its own sign of life")
    yield from _closure()
    for kind, (group, resource) in CLOSURE.items():
        if kind in SWEPT and (kind in written or kind in ("ConfigMap", "Secret", "Service")):
            yield Right("delete", resource, group, why="what the run added goes")
    for verb in ("get", "list", "delete"):
        yield Right(verb, "jobs", "batch", why="what the run added goes")
    if located.scenario.load is not None and located.scenario.load.workers > 1:
        yield Right("delete", "networkpolicies", "networking.k8s.io", why="what the run added goes")
    if located.scenario.stand.create:
        for verb in ("get", "delete"):
            yield Right(verb, "namespaces", namespaced=False, why="the namespace that the run makes goes")


def owner_rights(located: Located) -> list[Right]:
    """What run and watchdog need on whoever deploys it by itself; its kind is known to the cluster alone, so of all of them."""
    scenario = located.scenario
    suspends = "suspend-sync" in scenario.consent
    verbs = ("get", *(("patch",) if suspends else ())) if suspends or located.says("rollout", "owner_in") else ()
    return [
        Right(verb, resource, api_version.partition("/")[0], namespace=scenario.rollout.owner_in, why="consent to suspend-sync")
        for api_version, resource in KINDS.values()
        for verb in verbs
    ]


def prerequisite_rights(located: Located) -> list[Right]:
    """To read what is under prerequisites/. The resource of a kind is guessed as Kubernetes itself does where it has not asked
    (apimachinery, meta.UnsafeGuessKindToResource): printed by `hotfire rbac`, never asked for before a run."""
    inside, found = located.scenario.stand.namespace, list[Right]()
    for ref in (Ref.of(obj) for obj in located.prerequisites):
        group, away = ref.api_version.rpartition("/")[0], "" if ref.namespace == inside else ref.namespace
        found.append(
            Right("get", _plural(ref.kind.lower()), group, namespaced=bool(ref.namespace), namespace=away, why="prerequisites/")
        )
    return found


def foreign_rights(located: Located) -> list[Right]:
    """To write objects of kinds that are not the closure's, and to put them back; their resource is guessed, as above."""
    kinds = {(str(obj["apiVersion"]), str(obj["kind"])) for obj in located.objects if not _of_closure(obj)}
    return [
        Right(verb, _plural(kind.lower()), api_version.rpartition("/")[0], why=f"the manifests hold a {kind}")
        for api_version, kind in sorted(kinds)
        for verb in ("get", "create", "update", "delete")
    ]


def _of_closure(obj: Mapping[str, object]) -> bool:
    """By group and kind: a StatefulSet may be another's."""
    group = str(obj["apiVersion"]).rpartition("/")[0]
    return CLOSURE.get(str(obj["kind"]), ("-",))[0] == group


def _plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def missing(cluster: Cluster, namespace: str, wanted: list[Right]) -> list[Right]:
    """Those of `wanted` that SelfSubjectAccessReview denies."""
    return [
        right
        for right in wanted
        if not cluster.can(
            right.verb, right.resource, group=right.group, subresource=right.subresource,
            namespace=(right.namespace or namespace) if right.namespaced else "",
        )
    ]  # fmt: skip

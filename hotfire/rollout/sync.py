"""Auto-sync: what Argo CD and Flux deployed they apply again by themselves, over a baseline that was restored, too.

With `consent: [suspend-sync]` their sync is suspended before anything is put back, and stays so: resumed, it would apply what
its source still says. Not earlier: a Flux object that is suspended deploys nothing. Without consent the way back is theirs.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping

from hotfire.journal.entries import SuspendSync
from hotfire.journal.journal import Journal
from hotfire.kube.client import Cluster, Forbidden, Object, Ref, UnknownKind
from hotfire.kube.pods import condition
from hotfire.record.events import Suspended
from hotfire.rollout.owner import tools
from hotfire.rollout.population import ref_of
from hotfire.scenario.model import Located

APPLICATION = "Application"
KINDS: Mapping[str, tuple[str, str]] = {  # -> apiVersion, resource
    APPLICATION: ("argoproj.io/v1alpha1", "applications"),
    "Kustomization": ("kustomize.toolkit.fluxcd.io/v1", "kustomizations"),
    "HelmRelease": ("helm.toolkit.fluxcd.io/v2", "helmreleases"),
}
TRACKING, INSTANCE = "argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"  # [NAMESPACE_]NAME[:…]


def deployer(obj: Object, home: str) -> Ref | None:
    """The object by which Argo CD or Flux deploys this one, as the marks say that they leave. home: where Argo CD's lie."""
    labels, notes = (obj["metadata"].get(key) or {} for key in ("labels", "annotations"))
    for kind in ("HelmRelease", "Kustomization"):  # of both, the one that applies it is the release
        group = KINDS[kind][0].partition("/")[0]
        if name := labels.get(f"{group}/name"):
            return Ref(KINDS[kind][0], kind, labels.get(f"{group}/namespace") or obj["metadata"]["namespace"], name)
    common = labels.get("app.kubernetes.io/instance", "") if "Argo CD" in tools(obj) else ""  # else written by hand
    if mark := notes.get(TRACKING) or labels.get(INSTANCE) or common:
        namespace, _, name = mark.partition(":")[0].rpartition("_")
        return Ref(KINDS[APPLICATION][0], APPLICATION, namespace or home, name)
    return None


def syncs(owner: Object) -> bool:
    """Whether it applies by itself."""
    if owner["kind"] != APPLICATION:
        return not owner["spec"].get("suspend")
    automated = (owner["spec"].get("syncPolicy") or {}).get("automated")
    return automated is not None and automated.get("enabled") is not False


def suspending(owner: Object) -> Object:
    """The merge patch after which it no longer does; a sync that is asked for by hand is Argo CD's to do still."""
    spec: Object = {"syncPolicy": {"automated": None}} if owner["kind"] == APPLICATION else {"suspend": True}
    return {"metadata": {"resourceVersion": owner["metadata"]["resourceVersion"]}, "spec": spec}


def resuming(owner: Object) -> Object:
    """The merge patch that undoes it."""
    spec = owner["spec"]
    if owner["kind"] == APPLICATION:
        return {"spec": {"syncPolicy": {"automated": spec["syncPolicy"]["automated"]}}}
    return {"spec": {"suspend": spec.get("suspend")}}


def under_way(owner: Object) -> bool:
    """Whether a sync that began earlier is still applying: suspending does not stop it, neither at Argo CD nor at Flux."""
    if owner["kind"] == APPLICATION:
        phase = ((owner.get("status") or {}).get("operationState") or {}).get("phase")
        return "operation" in owner or phase in ("Running", "Terminating")
    found = condition(owner, "Reconciling")
    return (found.get("status"), found.get("reason")) == ("True", "Progressing")  # with retry: it waits for the next try


def syncing(cluster: Cluster, located: Located, namespace: str) -> tuple[list[Object], list[str]]:
    """Owners of the scenario's workloads that sync by themselves; and of those that cannot be looked at, a line each."""
    found: dict[Ref, Object] = {}
    wrong: list[str] = []
    for serves in located.scenario.candidate.serves if located.scenario.by_pipeline else ():
        live = cluster.find(ref_of(serves, namespace))
        if live is None:
            continue
        if (ref := deployer(live, located.scenario.rollout.owner_in)) is None:
            unknown = "no mark on it says by which object"
            wrong += [f"{serves.workload} is deployed by {one}, {unknown}" for one in tools(live) - {"Helm"}]
            continue
        try:
            owner = cluster.find(ref)
        except (Forbidden, UnknownKind) as error:
            wrong.append(f"{serves.workload} is deployed by {ref.whole}, which cannot be read: {error.message}")
            continue
        if owner is None:
            wrong.append(f"{serves.workload} is deployed by {ref.whole}, which is not there: `rollout.owner_in` says where")
        elif syncs(owner):
            found[ref] = owner
    return list(found.values()), wrong


def unsuspendable(cluster: Cluster, owner: Object, home: str) -> Iterator[str]:
    """Why the sync of this owner cannot be suspended, or would not stay so."""
    ref = Ref.of(owner)
    group, resource = ref.api_version.partition("/")[0], KINDS[ref.kind][1]
    if not cluster.can("patch", resource, group=group, namespace=ref.namespace, name=ref.name):
        yield f"{ref.whole} cannot be suspended: not allowed to patch {resource}.{group} in {ref.namespace}"
    if keeper := _keeper(cluster, owner, home):
        yield f"{ref.whole} would not stay suspended: {keeper} writes its spec"


def _keeper(cluster: Cluster, owner: Object, home: str) -> str:
    """Who would undo it: an ApplicationSet, an Application above that syncs, whoever applies `suspend` from its own source."""
    meta = owner["metadata"]
    for one in meta.get("ownerReferences") or ():
        if one["kind"] == "ApplicationSet":
            return f"ApplicationSet {meta['namespace']}/{one['name']}"
    for entry in meta.get("managedFields") or ():
        if entry.get("operation") == "Apply" and "f:suspend" in (entry.get("fieldsV1") or {}).get("f:spec", {}):
            return str(entry["manager"])
    above = deployer(owner, home)
    if above is None or above.kind != APPLICATION:
        return ""  # Flux applies only what its source says
    found = cluster.find(above)
    return above.whole if found and syncs(found) else ""


def suspensions(journal: Journal) -> Iterable[SuspendSync]:
    """One for each owner that the way back suspended."""
    return {entry.ref: entry for entry in journal.of_type(SuspendSync)}.values()


def said_of(entry: SuspendSync) -> Suspended:
    """With the command that resumes it."""
    resource = f"{KINDS[entry.kind][1]}.{entry.api_version.partition('/')[0]}"
    what = ["kubectl", "-n", entry.namespace, "patch", resource, entry.name, "--type", "merge", "-p"]
    return Suspended(object=entry.ref.whole, resume=shlex.join([*what, json.dumps(entry.resume)]))


def suspended(journal: Journal) -> Iterator[Suspended]:
    """What is said of all of them."""
    return map(said_of, suspensions(journal))

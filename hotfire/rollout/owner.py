"""Who else deploys a workload. A pipeline that re-applies its own version would undo the candidate, or the way back."""

from collections.abc import Iterator

from hotfire.kube.client import Object

LABELS = {
    "argocd.argoproj.io/instance": "Argo CD application",
    "kustomize.toolkit.fluxcd.io/name": "Flux kustomization",
    "helm.toolkit.fluxcd.io/name": "Flux Helm release",
}
ANNOTATIONS = {
    "argocd.argoproj.io/tracking-id": "Argo CD application",
    "meta.helm.sh/release-name": "Helm release",
}
MANAGERS = {
    "helm": "Helm",
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
}
BOOKKEEPING = {  # labels and annotations that tools write on what they deploy, and that no manifest holds
    *LABELS,
    *ANNOTATIONS,
    "app.kubernetes.io/managed-by",
    "helm.toolkit.fluxcd.io/namespace",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.toolkit.fluxcd.io/namespace",
    "meta.helm.sh/release-namespace",
}


def owner_of(obj: Object) -> str:
    """In words, `Helm release llama (metadata.annotations[…])`; empty for an object that nobody else deploys.

    The common label app.kubernetes.io/instance is no sign: people write it by hand.
    """
    return next(_signs(obj), "")


def last_writer(obj: Object) -> str:
    """Whoever wrote it last by its managedFields, status aside; in words where it is a tool that deploys."""
    entries = [one for one in obj["metadata"].get("managedFields") or () if one.get("subresource") != "status"]
    if not entries:
        return "an unknown manager"
    manager = str(max(entries, key=lambda one: str(one.get("time")))["manager"])
    return f"{manager} ({MANAGERS[manager]})" if manager in MANAGERS else manager


def tools(obj: Object) -> set[str]:
    """Those that deploy, as far as they wrote fields of it, status aside."""
    entries = obj["metadata"].get("managedFields") or ()
    return {MANAGERS.get(one.get("manager", ""), "") for one in entries if one.get("subresource") != "status"} - {""}


def _signs(obj: Object) -> Iterator[str]:
    meta = obj["metadata"]
    for place, known in (("labels", LABELS), ("annotations", ANNOTATIONS)):
        for key, who in known.items():
            if value := (meta.get(place) or {}).get(key):
                yield f"{who} {value.partition(':')[0]} (metadata.{place}[{key}])"
    if (meta.get("labels") or {}).get("app.kubernetes.io/managed-by") == "Helm":
        yield "Helm (metadata.labels[app.kubernetes.io/managed-by])"
    for entry in meta.get("managedFields") or ():
        tool = MANAGERS.get(entry.get("manager", ""))
        if tool and entry.get("subresource") != "status":
            yield f"{tool} (it wrote fields as manager {entry['manager']})"

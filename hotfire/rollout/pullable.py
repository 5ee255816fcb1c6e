"""May what serves now be had once more? A kubelet is asked, as it will be on the way back.

A registry that dropped an image, a Secret that no longer opens it, a tag that means another image by now: running pods do not
notice, those of a rollback do. Asked with the template's own image, policy, Secrets and account, on a node that serves.
"""

from collections.abc import Iterator

from hotfire.errors import Unjudged
from hotfire.kube.client import ApiError, Cluster, Object
from hotfire.rollout.population import Population
from hotfire.rollout.probes import probe_pod, pulled
from hotfire.rollout.snapshot import images_of
from hotfire.scenario.images import templates
from hotfire.words import Blame, Reason


def ask(cluster: Cluster, anchor: Object, serving: Population) -> None:
    """Raises Unjudged with the kubelet's word when a new pod of this workload would not run what its pods run now."""
    namespace = serving.workload["metadata"]["namespace"]
    try:
        specs = [template["spec"] for template in templates(serving.workload)]
        said = [line for spec in specs for line in _said(cluster, namespace, anchor, spec, serving)]
    except ApiError as error:
        said = [str(error)]
    if said:
        text = f"{serving.workload['metadata']['name']} could not come back, nothing was changed: {'; '.join(said)}"
        raise Unjudged(text, reason=Reason.SETUP, blame=Blame.PLATFORM)


def _said(cluster: Cluster, namespace: str, anchor: Object, template: Object, serving: Population) -> Iterator[str]:
    """A line for each image of the template that is not to be had, or is another one now."""
    runs = images_of(serving.pods)
    every = (*(template.get("initContainers") or ()), *template["containers"])
    asked = {(one["image"], one.get("imagePullPolicy", "IfNotPresent")) for one in every}
    for number, (image, policy) in enumerate(sorted(asked) if runs else ()):
        with probe_pod(
            cluster, namespace, anchor, f"back-{number}-{serving.workload['metadata']['uid'][:6]}", image=image,
            always_pull=policy == "Always", command=["/hotfire/asks-for-the-image-alone"],
            nodes=sorted({pod["spec"]["nodeName"] for pod in serving.pods if pod["spec"].get("nodeName")}),
            pull_secrets=[one["name"] for one in template.get("imagePullSecrets") or ()],
            tolerations=template.get("tolerations") or (), account=template.get("serviceAccountName", ""),
        ) as probe:  # fmt: skip
            digest, why = pulled(cluster, probe, image)
        if why:
            yield f"{image}: {why}"
        elif digest not in runs:
            yield f"{image} means {digest} now, and {', '.join(sorted(runs))} serves: name it by digest"

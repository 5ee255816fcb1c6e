"""Pods of the run's own, used to ask the cluster a question: is a node open, is an image private, is a witness fooled.

They are owned by the run's anchor, restricted, without devices, and end by themselves (activeDeadlineSeconds).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from hotfire.errors import Unjudged
from hotfire.gates.blame import PULLING
from hotfire.kube.client import Cluster, NotFound, Object, Ref
from hotfire.kube.pods import containers
from hotfire.kube.wait import Late, wait_for
from hotfire.words import Blame, Reason

LIFETIME = 300  # seconds
PULL_WAIT = 60.0  # seconds for a kubelet to have tried
RUN_LABEL = "hotfire.dev/run"
PURPOSE = "hotfire.dev/purpose"


def labelled(live: Object, run: str) -> bool:
    """Whether it carries the label of this run."""
    return bool((live["metadata"].get("labels") or {}).get(RUN_LABEL) == run)


@contextmanager
def probe_pod(
    cluster: Cluster,
    namespace: str,
    anchor: Object,
    purpose: str,
    *,
    image: str,
    nodes: Sequence[str] = (),
    pull_secrets: Sequence[str] = (),
    tolerations: Sequence[Object] = (),
    memory: str = "64Mi",
    always_pull: bool = False,
    account: str = "",
    command: Sequence[str] = ("sleep", str(LIFETIME)),
) -> Iterator[Ref]:
    """A pod for the length of the block; deleted by UID afterwards, whatever happens in it."""
    run = anchor["metadata"]["labels"][RUN_LABEL]
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]} for node in nodes]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    manifest: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"hotfire-{purpose}-{run[-6:]}",
            "namespace": namespace,
            "labels": {RUN_LABEL: run, PURPOSE: purpose},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "name": anchor["metadata"]["name"],
                    "uid": anchor["metadata"]["uid"],
                }
            ],
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFETIME,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **({"affinity": affinity} if nodes else {}),
            **({"imagePullSecrets": [{"name": secret} for secret in pull_secrets]} if pull_secrets else {}),
            **({"tolerations": list(tolerations)} if tolerations else {}),
            **({"serviceAccountName": account} if account else {}),
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "imagePullPolicy": "Always" if always_pull else "IfNotPresent",
                    "command": list(command),
                    "resources": {
                        "requests": {"cpu": "10m", "memory": memory},
                        "limits": {"cpu": "500m", "memory": memory},
                    },
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    made = cluster.create(manifest)
    try:
        yield Ref.of(made)
    finally:
        with suppress(NotFound):
            cluster.delete(Ref.of(made), uid=made["metadata"]["uid"], grace=0)


def pulled(cluster: Cluster, probe: Ref, image: str) -> tuple[str, str]:
    """The digest of the image that a probe pod got, or the kubelet's word why it got none.

    Raises Unjudged when the kubelet said nothing in PULL_WAIT.
    """
    try:
        return wait_for(
            cluster, f"the kubelet tried to pull {image}", "v1", "Pod", probe.namespace,
            fields=f"metadata.name={probe.name}", until=_tried, deadline_s=PULL_WAIT,
        )  # fmt: skip
    except Late as late:
        raise Unjudged(str(late), reason=Reason.TIMEOUT, blame=Blame.PLATFORM) from None


def _tried(objects: dict[str, Object]) -> tuple[str, str] | None:
    for one in (one for pod in objects.values() for one in containers(pod)):
        if one.state == "waiting" and one.reason in PULLING - {"ImagePullBackOff"}:  # which no longer says why
            return "", " ".join(one.message.split())
        if one.image_id:
            return one.digest or one.image_id, ""
    return None

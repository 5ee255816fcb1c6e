"""Which pods are of which template, for a kind whose controller hotfire does not know.

A template says less than its pods have, for a server, admission and controllers add to them. So a pod that has all that the
template of now says may yet be of the one before, from which something was taken away; but pods of before are known from
before, by all of what they are but what differs from pod to pod: their print.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from kubernetes.utils.quantity import parse_quantity

from hotfire.kube.client import Object
from hotfire.scenario.images import templates

VARIES = re.compile(r"hash|index|generation|revision|pod-name|group-key")  # labels in which pods of one template differ
TOKEN = re.compile(r"kube-api-access-[a-z0-9]{5}")  # the volume of the ServiceAccount's token
OF_THE_POD = ("nodeName", "hostname", "subdomain", "ephemeralContainers")
OF_THE_NODE = "node.kubernetes.io/"  # tolerations that a DaemonSet's controller and admission add


def made_of(template: Object, pod: Object) -> bool:
    """Whether the pod has all that the template says: labels, annotations, and every field of its spec. A DaemonSet's affinity
    is its controller's, who puts the node there."""
    meta, spec = template.get("metadata") or {}, dict(template["spec"])
    if _of_daemon_set(pod):
        spec.pop("affinity", None)
    labels = {key: meta.get(key) for key in ("labels", "annotations")}
    return _holds(labels, pod["metadata"]) and _holds(spec, pod["spec"])


def print_of(pod: Object, annotated: Collection[str]) -> str:
    """What a pod is, less what differs between pods of one template, as a digest. annotated: annotations that count, those of
    the template: others are of the network and of the moment."""
    meta, spec = pod["metadata"], {key: value for key, value in pod["spec"].items() if key not in OF_THE_POD}
    if _of_daemon_set(pod):
        spec.pop("affinity", None)
    spec["tolerations"] = [one for one in spec.get("tolerations") or () if not one.get("key", "").startswith(OF_THE_NODE)]
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if not VARIES.search(key)}
    notes = {key: value for key, value in (meta.get("annotations") or {}).items() if key in annotated}
    text = TOKEN.sub("kube-api-access", json.dumps([labels, notes, spec], sort_keys=True))
    return hashlib.sha256(text.replace(meta["name"], "*").encode()).hexdigest()


def annotated(workload: Object) -> tuple[str, ...]:
    """Keys of the annotations that its pod templates set."""
    return tuple(sorted({key for one in templates(workload) for key in (one.get("metadata") or {}).get("annotations") or ()}))


def template_digest(workload: Object) -> str:
    """Of all its pod templates, as the server has them."""
    return hashlib.sha256(json.dumps(templates(workload), sort_keys=True).encode()).hexdigest()


def prints_of(pods: Iterable[Object], annotated: Collection[str]) -> tuple[str, ...]:
    """Of each kind of pod among them, once."""
    return tuple(sorted({print_of(pod, annotated) for pod in pods}))


def _of_daemon_set(pod: Object) -> bool:
    return any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences") or ())


def _holds(want: object, have: object) -> bool:
    """Whether what is there says all that is wanted. A mapping may hold more keys, a list of mappings more items."""
    if want in (None, "", {}, []) or (want is False and have is None):  # a server does not say what is so by default
        return True
    if isinstance(want, Mapping):
        return isinstance(have, Mapping) and all(_holds(value, have.get(key)) for key, value in want.items())
    if isinstance(want, list) and want and isinstance(want[0], Mapping):
        return isinstance(have, list) and all(any(_holds(one, item) for item in have) for one in want)
    if want == have:
        return True
    with suppress(ValueError, TypeError):  # 1000m of a CPU is 1 once a server has read it
        return bool(parse_quantity(want) == parse_quantity(have))  # type: ignore[no-untyped-call]
    return False

"""What may differ between a snapshot and what is live after a restore: all of it, each with its reason. Nothing else may."""

import copy

from hotfire.kube.client import Object

STATUS = "what controllers report; the points population, landed and traffic judge it"
METADATA = {
    "resourceVersion": "counts every write, the restoring one too",
    "generation": "counts every change of the spec, the restoring one too",
    "managedFields": "compared apart, without the times of its entries",
    "uid": "an object that was deleted and is made again has a new one; listed as recreated",
    "creationTimestamp": "as uid",
    "selfLink": "no longer served",
}
ANNOTATIONS = {
    "deployment.kubernetes.io/revision": "the controller numbers a template that returns as its newest revision",
    "deprecated.daemonset.template.generation": "the API server counts the changes of a DaemonSet's template, as generation",
}
CLAIMS = "a claim is never written by a run; volumeName and the binder's annotations come when the cluster binds it"
SCALED = "an autoscaler owns replicas"


def comparable(obj: Object, scaled: bool = False) -> Object:
    """The object less what may differ; empty maps and lists of metadata count as none. scaled: an autoscaler owns it."""
    plain = {key: copy.deepcopy(value) for key, value in obj.items() if key != "status"}
    meta = {key: value for key, value in plain["metadata"].items() if key not in METADATA and value}
    if "annotations" in meta:
        meta["annotations"] = {key: value for key, value in meta["annotations"].items() if key not in ANNOTATIONS}
        if not meta["annotations"]:
            del meta["annotations"]
    plain["metadata"] = meta
    if obj["kind"] == "PersistentVolumeClaim":
        meta.pop("annotations", None)
        plain["spec"].pop("volumeName", None)
    if scaled:
        plain["spec"].pop("replicas", None)
    return plain


def owners(obj: Object) -> list[Object]:
    """managedFields less times and less what controllers report through the status subresource, in a fixed order."""
    entries = [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in obj["metadata"].get("managedFields") or ()
        if entry.get("subresource") != "status"
    ]
    return sorted(entries, key=lambda entry: (entry["manager"], entry["operation"], entry.get("subresource", "")))


def differences(expected: object, observed: object, path: str = "", *, subset: bool = False) -> list[str]:
    """Paths at which observed is not expected, as lines. subset: observed may hold more keys (not more list items), and
    what the expected side leaves empty may be missing."""
    if isinstance(expected, dict) and isinstance(observed, dict):
        keys = expected.keys() if subset else expected.keys() | observed.keys()
        missing = object()
        lines: list[str] = []
        for key in sorted(keys):
            want, have = expected.get(key, missing), observed.get(key, missing)
            where = f"{path}.{key}" if path else str(key)
            if want is missing:
                lines.append(f"{where}: {_short(have)} is there, nothing is expected")
            elif have is missing:
                lines += [] if subset and want in (None, "", {}, []) else [f"{where}: missing, {_short(want)} is expected"]
            else:
                lines += differences(want, have, where, subset=subset)
        return lines
    if isinstance(expected, list) and isinstance(observed, list) and len(expected) == len(observed):
        pairs = enumerate(zip(expected, observed, strict=True))
        return [line for index, (want, have) in pairs for line in differences(want, have, f"{path}[{index}]", subset=subset)]
    return [] if expected == observed else [f"{path}: {_short(observed)} is there, {_short(expected)} is expected"]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

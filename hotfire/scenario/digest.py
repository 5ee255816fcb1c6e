"""The candidate digest: what a GO was given for, the same in every namespace and cluster it may be promoted to."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from hotfire.scenario.datafiles import read_golden
from hotfire.scenario.images import containers
from hotfire.scenario.model import Located


def candidate_digest(located: Located) -> str:
    """SHA-256 (hex) over the rendered manifests with images by digest, less namespace, hosts, replicas and Secret values,
    plus runtime, model identity and golden set (DESIGN: modes). Raises BadInput for a golden file that is broken.

    An image with a digest counts by it alone: a mirror serves the same bytes. Formatting, comments, the order of files
    and of keys do not count; anything that a pod could notice does.
    """
    scenario = located.scenario
    golden = scenario.behaviour.golden
    content = {
        "objects": sorted((_canonical(item) for item in located.objects), key=_identity),
        "serves": [
            {"workload": serves.workload, "runtime": serves.runtime, "model": serves.model, "api": serves.api}
            for serves in sorted(scenario.candidate.serves, key=lambda serves: serves.workload)
        ],
        "golden": read_golden(located.folder / golden) if golden else [],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(item: Mapping[str, Any]) -> tuple[str, str, str]:
    return item["apiVersion"], item["kind"], item["metadata"]["name"]


def _canonical(item: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = deepcopy(dict(item))
    data.pop("status", None)
    data["metadata"].pop("namespace", None)
    spec = data.get("spec")
    if isinstance(spec, dict):
        for key in ("replicas", "host", "hostnames"):
            spec.pop(key, None)
        for group, key in (("rules", "host"), ("tls", "hosts"), ("listeners", "hostname")):
            for entry in _dicts(spec.get(group)):
                entry.pop(key, None)
    for subject in _dicts(data.get("subjects")):
        subject.pop("namespace", None)
    if data["kind"] == "Secret":
        keys = [key for group in ("data", "stringData") for key in data.pop(group, None) or {}]
        data["keys"] = sorted(set(keys))
    for container in containers(data):
        name, _, digest = str(container.get("image", "")).rpartition("@")
        container["image"] = digest if name else digest or ""
    return data


def _dicts(values: object) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []

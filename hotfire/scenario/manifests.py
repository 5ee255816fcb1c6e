"""Reads the objects to roll out: plain YAML, rendered already, held against what the scenario says of them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotfire.errors import BadInput
from hotfire.scenario.images import below, is_template, templates
from hotfire.scenario.marks import Document, Loc, Mark, at, mark_of, read_kubectl
from hotfire.scenario.model import Scenario
from hotfire.scenario.serves import Serves

PREREQUISITES = "prerequisites"
OURS = "hotfire.dev/"  # label and annotation keys that only a run may set
KUSTOMIZATION = ("kustomization.yaml", "kustomization.yml", "Kustomization")

# What no namespace holds (Kubernetes 1.36 `kubectl api-resources --namespaced=false`, and the common add-ons).
CLUSTER_SCOPED = frozenset(
    re.findall(
        r"\w+",
        """APIService CSIDriver CSINode CertificateSigningRequest ClusterIssuer ClusterPolicy ClusterRole ClusterRoleBinding
    ClusterTrustBundle ComponentStatus CustomResourceDefinition DeviceClass DeviceTaintRule FlowSchema GatewayClass
    IPAddress IngressClass MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
    Namespace Node NodePool PersistentVolume PriorityClass PriorityLevelConfiguration ResourceSlice RuntimeClass
    ServiceCIDR StorageClass StorageVersion StorageVersionMigration ValidatingAdmissionPolicy
    ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration VolumeAttachment VolumeAttributesClass""",
    )
)


@dataclass(frozen=True)
class Manifest:
    """One object and its place: `file`, and `loc` of the object in the document (an item of a List has one of its own)."""

    data: dict[str, Any]
    file: Path
    document: Document
    loc: Loc = ()

    def where(self, *loc: str | int) -> str:
        """`file:line:column` of the nearest key there is on the way to loc."""
        return at(self.file, mark_of(self.document.marks, (*self.loc, *loc))[1].key)

    @property
    def kind(self) -> str:
        return str(self.data["kind"])

    @property
    def name(self) -> str:
        return str(self.data["metadata"]["name"])

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Group, kind, namespace, name: the version does not make another object."""
        group = str(self.data["apiVersion"]).rpartition("/")[0]
        return group, self.kind, str(self.data["metadata"].get("namespace", "")), self.name


@dataclass(frozen=True)
class Found:
    """The objects in the order of files and documents; sources: `file:line:column` of each, then of each prerequisite."""

    objects: tuple[dict[str, Any], ...]
    prerequisites: tuple[dict[str, Any], ...]
    sources: tuple[str, ...]


@dataclass
class _Reading:
    namespace: str
    wrong: list[str] = field(default_factory=list)
    plain: list[Manifest] = field(default_factory=list)
    prerequisites: list[Manifest] = field(default_factory=list)


def read_manifests(scenario: Scenario, folder: Path, declared_at: str, path: Path, marks: Mapping[Loc, Mark]) -> Found:
    """Every object under a folder (or in one file). declared_at: where the scenario names it. Raises BadInput."""
    reading = _Reading(scenario.stand.namespace)
    for file in _files(folder, declared_at):
        below = file.relative_to(folder).parts[:-1] if folder.is_dir() else ()
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reading.wrong.append(f"{file}:1:1: cannot be read: {error}")
            continue
        for document in read_kubectl(text):
            reading.wrong += [f"{at(file, (line, column))}: {said}" for line, column, said in document.wrong]
            if not document.wrong:
                _objects(reading, file, document, PREREQUISITES in below)
    if not reading.wrong:
        for index, serves in enumerate(scenario.candidate.serves):
            place = {key: at(path, mark_of(dict(marks), ("candidate", "serves", index, key))[1].value)
                     for key in ("workload", "service", "container", "port")}  # fmt: skip
            reading.wrong += _served(serves, reading.plain, place, folder)
    if reading.wrong:
        raise BadInput(*reading.wrong)
    return Found(
        tuple(item.data for item in reading.plain),
        tuple(item.data for item in reading.prerequisites),
        tuple(item.where() for item in (*reading.plain, *reading.prerequisites)),
    )


def _files(folder: Path, declared_at: str) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise BadInput(f"{declared_at}: {folder} does not exist, a folder of manifests is expected")
    visible = [path for path in sorted(folder.rglob("*")) if not any(part[0] == "." for part in path.relative_to(folder).parts)]
    for file in visible:
        tool = "kubectl kustomize" if file.name in KUSTOMIZATION else "helm template" if file.name == "Chart.yaml" else ""
        if tool:
            raise BadInput(f"{file}: not rendered, plain YAML is expected: {tool} {file.parent} > OTHER_FOLDER/all.yaml")
    files = [path for path in visible if path.suffix in (".yaml", ".yml") and path.is_file()]
    if not files:
        raise BadInput(f"{declared_at}: {folder} holds no manifest, at least one *.yaml or *.yml is expected")
    return files


def _objects(reading: _Reading, file: Path, document: Document, prerequisite: bool) -> None:
    whole = Manifest(document.data, file, document)
    listed = isinstance(whole.data, dict) and whole.data.get("kind") == "List"
    items = whole.data.get("items") if listed else None
    for index, data in enumerate(items if isinstance(items, list) else [whole.data]):
        member = Manifest(data, file, document, ("items", index)) if isinstance(items, list) else whole
        said = list(_shape(member))
        if not said:
            said = list(_placed(member, reading.namespace, prerequisite))
            said += _twice(member, reading.plain + reading.prerequisites)
            (reading.prerequisites if prerequisite else reading.plain).append(member)
        reading.wrong += said


def _shape(item: Manifest) -> Iterator[str]:
    """What makes an object an object."""
    if not isinstance(item.data, dict):
        yield f"{item.where()}: no object, a mapping with apiVersion, kind and metadata.name is expected"
        return
    for key in ("apiVersion", "kind"):
        if not isinstance(item.data.get(key), str):
            yield f"{item.where(key)}: {key} is missing or no string, every object needs one"
    meta = item.data.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        yield f"{item.where('metadata', 'name')}: metadata.name is missing or no string, every object needs one"
        return
    for key in ("labels", "annotations"):
        values = meta.get(key) or {}
        if not isinstance(values, dict):
            yield f"{item.where('metadata', key)}: metadata.{key} is no mapping, one of strings is expected"
            continue
        for name, value in values.items():
            if not isinstance(value, str):
                yield f"{item.where('metadata', key, name)}: metadata.{key} holds {value!r}, a string is expected, quote it"
    if item.data.get("kind") in ("Deployment", "StatefulSet") and isinstance(item.data.get("apiVersion"), str):
        yield from _templated(item, is_template(below(item.data, "spec", "template")))


def _templated(item: Manifest, there: bool) -> Iterator[str]:
    if not there:
        where = item.where("spec", "template", "spec", "containers")
        yield f"{where}: {item.kind} {item.name} holds no pod template, containers with name and image are expected"


def _placed(item: Manifest, namespace: str, prerequisite: bool) -> Iterator[str]:
    """Where an object may go, and what it may not call itself. Fills the namespace in."""
    meta = item.data["metadata"]
    if item.kind in CLUSTER_SCOPED:
        if not prerequisite:
            yield f"{item.where('kind')}: {item.kind} {item.name} is cluster-scoped, allowed only under {PREREQUISITES}/"
    elif not prerequisite and meta.get("namespace") not in (None, namespace):
        foreign = meta["namespace"]
        yield f"{item.where('metadata', 'namespace')}: namespace {foreign!r} is foreign, {namespace!r} or none is allowed"
    elif "namespace" not in meta or not prerequisite:
        meta["namespace"] = namespace
    for loc in _keys(item.data):
        if str(loc[-1]).startswith(OURS):
            yield f"{item.where(*loc)}: {loc[-1]!r} is hotfire's own, only a run may set it"


def _keys(node: Any, loc: Loc = ()) -> Iterator[Loc]:
    """Where the labels and annotations are of an object, and of all that it is a template of."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else ()):
        if key == "metadata":
            for group in ("labels", "annotations"):
                named = below(value, group)
                yield from ((*loc, key, group, name) for name in (named if isinstance(named, dict) else ()))
        else:
            yield from _keys(value, (*loc, key))


def _twice(item: Manifest, others: list[Manifest]) -> Iterator[str]:
    for other in others:
        if other.identity == item.identity:
            yield f"{item.where()}: {item.kind} {item.name} is there twice, first at {other.where()}, one is allowed"


def _served(serves: Serves, items: list[Manifest], place: Mapping[str, str], folder: Path) -> Iterator[str]:
    """What `serves` claims must be there: the workload, the Service, and that the one selects the other's pods."""
    other = serves.pods is not None
    of_kind = [item for item in items if not other or item.data["apiVersion"] == serves.api_version]
    workload = next((item for item in of_kind if (item.kind, item.name) == (serves.kind, serves.name)), None)
    service = next((item for item in items if (item.kind, item.name) == ("Service", serves.service)), None)
    if workload is None:
        yield f"{place['workload']}: {folder} holds no {serves.kind} {serves.name}, {_there(items, serves.kind)}"
    if service is None:
        yield f"{place['service']}: {folder} holds no Service {serves.service}, {_there(items, 'Service')}"
    if workload is not None:
        names = list(dict.fromkeys(one["name"] for each in templates(workload.data) for one in each["spec"]["containers"]))
        shown, where = ", ".join(names), place["container"]
        if serves.container is None and len(names) > 1:
            yield f"{where}: {serves.workload} has {len(names)} containers, `container` says which: {shown}"
        if serves.container is not None and serves.container not in names:
            yield f"{where}: {serves.workload} has no container {serves.container!r}, there is: {shown}"
    if service is not None:
        yield from _ports(serves, service, place["port"])
    if workload is not None and other:  # which labels its controller gives them is not for us to know
        yield from _templated(workload, bool(templates(workload.data)))
    elif workload is not None and service is not None:
        yield from _selected(workload, service)


def _there(items: list[Manifest], kind: str) -> str:
    names = sorted(item.name for item in items if item.kind == kind)
    return f"there is: {', '.join(names)}" if names else f"there is no {kind} at all"


def _ports(serves: Serves, service: Manifest, place: str) -> Iterator[str]:
    listed = below(service.data, "spec", "ports")
    ports = [port for port in listed if isinstance(port, dict)] if isinstance(listed, list) else []
    shown = ", ".join(f"{port.get('name', '')} {port.get('port')}".strip() for port in ports) or "none"
    if serves.port is None and len(ports) != 1:
        yield f"{place}: Service {service.name} has {len(ports)} ports, `port` says which: {shown}"
    if serves.port is not None and not any(serves.port in (port.get("name"), port.get("port")) for port in ports):
        yield f"{place}: Service {service.name} has no port {serves.port!r}, there is: {shown}"


def _selected(workload: Manifest, service: Manifest) -> Iterator[str]:
    labels = below(workload.data, "spec", "template", "metadata", "labels")
    labels = labels if isinstance(labels, dict) else {}
    selectors = (
        (service, ("spec", "selector")),
        (workload, ("spec", "selector", "matchLabels")),
    )
    for item, loc in selectors:
        selector = below(item.data, *loc)
        if not isinstance(selector, dict) or not selector:
            yield f"{item.where(*loc)}: {item.kind} {item.name} selects nothing, labels of {workload.name}'s pods are expected"
            continue
        for key, value in selector.items():
            if labels.get(key) != value:
                has = f"{key}={labels[key]}" if key in labels else f"no label {key}"
                yield (
                    f"{item.where(*loc, key)}: {item.kind} {item.name} selects {key}={value}, "
                    f"the pods of {workload.kind} {workload.name} have {has}"
                )

"""Who a failure is attributed to, by rules on evidence. Pure: objects as the API server gives them, to a Blame and its rule.

The first rule that matches decides; where none does, the blame is unknown and the run INCONCLUSIVE: a guess blames nobody.
Our own faults come first, because a harness that is broken knows nothing of the candidate; then the platform's, then its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from hotfire.words import Blame

Object = Mapping[str, Any]

PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ErrImageNeverPull", "InvalidImageName"})
CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
NOT_THERE = ("not found", "manifest unknown", "NAME_UNKNOWN", "InvalidImageName", "invalid reference")
PRESSURE = ("MemoryPressure", "DiskPressure", "PIDPressure")
UNITS: Mapping[str, Decimal] = {
    **{name: Decimal(1024**power) for power, name in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)},
    **{name: Decimal(1000**power) for power, name in enumerate(("k", "M", "G", "T"), 1)},
    "m": Decimal("0.001"),
}


class Asked(Protocol):
    """`scheduling:` of the scenario."""

    @property
    def devices(self) -> Mapping[str, int]: ...

    @property
    def nodes(self) -> Mapping[str, str]: ...

    @property
    def tolerates(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Facts:
    """What was seen of one failure; a text says what, None means that nobody looked.

    pending: waits for a node; differs: in what it asks for other than `scheduling:`; fitted: some node fits what
    `scheduling:` asks. pull: the kubelet's words; baseline_pulls: the control image came down on that node with that secret.
    died: how a container ended; spec: why the kubelet cannot make one of it; unready: runs and fails its own probe.
    platform: node pressure, preemption, a lost node, an API outage in the window. slo: an objective was missed;
    client_sound: the load client's own check; users: the objective that users' requests miss by the pods' own counters.
    ours: an exception of our own, or a pod of our own that was evicted.
    """

    pending: bool = False
    differs: tuple[str, ...] = ()
    fitted: bool | None = None
    pull: str = ""
    baseline_pulls: bool | None = None
    died: str = ""
    spec: str = ""
    unready: bool = False
    platform: tuple[str, ...] = ()
    slo: str = ""
    users: str = ""
    client_sound: bool | None = None
    ours: str = ""

    @classmethod
    def of_pod(
        cls,
        pod: Object,
        scheduling: Asked | None,
        nodes: Iterable[Object],
        *,
        platform: Sequence[str] = (),
        baseline_pulls: bool | None = None,
    ) -> "Facts":
        """What a pod's own status, its node and the cluster's nodes say of why it does not serve.

        platform: what else was seen of the platform in the window. Raises nothing: what is not there was not seen.
        """
        nodes, spec, status = list(nodes), pod["spec"], pod.get("status") or {}
        home = [node for node in nodes if node["metadata"]["name"] == spec.get("nodeName")]
        states = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        waiting = [(one["name"], (one.get("state") or {}).get("waiting") or {}) for one in states]
        pulls = [f"{name}: {said['reason']} {_said(said)}" for name, said in waiting if said.get("reason") in PULLING]
        makes = [f"{name}: {said['reason']} {_said(said)}" for name, said in waiting if said.get("reason") in CONFIG]
        running = bool(states) and all("running" in (one.get("state") or {}) for one in status.get("containerStatuses") or ())
        deaths = [death for one in states if (death := _death(one, spec))]
        gone = bool(spec.get("nodeName")) and bool(nodes) and not home
        unwell = [line for node in home for line in _unwell(node)] + [f"node {spec.get('nodeName')} is gone"] * gone
        return cls(
            pending=not spec.get("nodeName"),
            differs=tuple(_differences(spec, scheduling, nodes)),
            fitted=any(_takes(node, scheduling) for node in nodes) if nodes else None,
            pull="; ".join(pulls).strip(),
            baseline_pulls=baseline_pulls,
            died="; ".join(deaths),
            spec="; ".join(makes).strip(),
            unready=running and not deaths and any(not one.get("ready") for one in status.get("containerStatuses") or ()),
            platform=(*platform, *unwell, *_disrupted(status)),
        )


Rule = tuple[Callable[[Facts], bool], Blame, Callable[[Facts], str]]
RULES: tuple[Rule, ...] = (
    (lambda f: bool(f.ours), Blame.HARNESS, lambda f: f.ours),
    (lambda f: f.client_sound is False, Blame.HARNESS, lambda f: "the load client was unsound"),
    (
        lambda f: f.pending and bool(f.differs),
        Blame.CANDIDATE,
        lambda f: "; ".join(f.differs),
    ),
    (
        lambda f: f.pending and f.fitted is True,
        Blame.PLATFORM,
        lambda f: "it asks for what scheduling declares, and a node fits that",
    ),
    (
        lambda f: bool(f.pull) and any(word in f.pull for word in NOT_THERE),
        Blame.CANDIDATE,
        lambda f: f"the registry answered and does not have its image: {f.pull}",
    ),
    (
        lambda f: bool(f.pull) and f.baseline_pulls is True,
        Blame.CANDIDATE,
        lambda f: f"the control image is pulled on that node with the same secret: {f.pull}",
    ),
    (
        lambda f: bool(f.pull) and f.baseline_pulls is False,
        Blame.PLATFORM,
        lambda f: f"the control image is not pulled on that node either: {f.pull}",
    ),
    (
        lambda f: bool(f.platform) and bool(f.died or f.slo or f.users or f.unready or f.spec),
        Blame.PLATFORM,
        lambda f: "; ".join(f.platform),
    ),
    (lambda f: bool(f.died), Blame.CANDIDATE, lambda f: f.died),
    (lambda f: bool(f.spec), Blame.CANDIDATE, lambda f: f"its own spec cannot be run: {f.spec}"),
    (lambda f: f.unready, Blame.CANDIDATE, lambda f: "it runs, and its own probe does not say ready"),
    (lambda f: bool(f.users), Blame.CANDIDATE, lambda f: f"{f.users}; its own pods counted them, and the platform was quiet"),
    (
        lambda f: bool(f.slo) and f.client_sound is True,
        Blame.CANDIDATE,
        lambda f: f"{f.slo}; the client was sound, and the platform quiet",
    ),
)


def attribute(facts: Facts) -> tuple[Blame, str]:
    """(whose failure it is, by which rule in words)."""
    for applies, blame, words in RULES:
        if applies(facts):
            return blame, words(facts)
    return Blame.UNKNOWN, "no rule matches what was seen"


def _said(waiting: Object) -> str:
    return " ".join(str(waiting.get("message", "")).split())[:200]


def _death(status: Object, spec: Object) -> str:
    """How a container ended by its own doing, now or the last time; empty if it did not."""
    ended = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    if not ended or ended.get("exitCode", 0) == 0:
        return ""
    name, reason, code = status["name"], ended.get("reason", "Error"), ended["exitCode"]
    if reason == "OOMKilled":
        every = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        limits = [(one.get("resources") or {}).get("limits") or {} for one in every if one["name"] == name]
        limit = next((one["memory"] for one in limits if "memory" in one), "")
        return f"{name} was OOMKilled at its own limit of {limit}" if limit else ""
    return f"{name} ended by {reason} with exit code {code}"


def _unwell(node: Object) -> Iterable[str]:
    name = node["metadata"]["name"]
    for one in (node.get("status") or {}).get("conditions") or ():
        if one["type"] == "Ready" and one["status"] != "True":
            yield f"node {name} is not ready"
        if one["type"] in PRESSURE and one["status"] == "True":
            yield f"node {name} has {one['type']}"


def _disrupted(status: Object) -> Iterable[str]:
    for one in status.get("conditions") or ():
        if one["type"] == "DisruptionTarget" and one["status"] == "True":
            yield f"the pod was disrupted: {one.get('reason', '')}"
    if status.get("reason") in ("Evicted", "Preempting", "NodeLost", "NodeShutdown"):
        yield f"the pod was ended by the platform: {status['reason']}"


def _differences(spec: Object, asked: Asked | None, nodes: Sequence[Object]) -> Iterable[str]:
    """In what a pod asks for a node otherwise than `scheduling:` does; without one, only for more than any node has."""
    if asked is not None:
        devices = _devices(spec)
        if devices != {name: int(count) for name, count in asked.devices.items()}:
            yield f"devices {devices or 'none'} differ from scheduling.devices {dict(asked.devices) or 'none'}"
        labels = _labels(spec)
        if labels != dict(asked.nodes):
            yield f"node selection {labels or 'none'} differs from scheduling.nodes {dict(asked.nodes) or 'none'}"
        missing = [
            text for text in asked.tolerates if not any(_tolerates(one, _taint(text)) for one in spec.get("tolerations") or ())
        ]
        if missing:
            yield f"tolerations differ from scheduling.tolerates: {', '.join(missing)} is missing"
    suited = [node for node in nodes if _takes(node, asked)]
    for resource in ("cpu", "memory"):
        wanted = sum((_wants(one, resource) for one in spec.get("containers") or ()), Decimal(0))
        offers = [_amount((node.get("status") or {}).get("allocatable", {}).get(resource, 0)) for node in suited]
        if offers and wanted > max(offers):
            yield f"it asks for more {resource} than any node has"


def _wants(container: Object, resource: str) -> Decimal:
    resources = container.get("resources") or {}
    return _amount({**(resources.get("limits") or {}), **(resources.get("requests") or {})}.get(resource, 0))


def _amount(quantity: object) -> Decimal:
    text = str(quantity)
    unit = next((unit for unit in UNITS if text.endswith(unit)), "")
    return Decimal(text.removesuffix(unit)) * UNITS.get(unit, Decimal(1))


def _devices(spec: Object) -> dict[str, int]:
    found: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, count in ((container.get("resources") or {}).get("limits") or {}).items():
            if "/" in name:
                found[name] = found.get(name, 0) + int(count)
    return found


def _labels(spec: Object) -> dict[str, str]:
    """nodeSelector, and what required node affinity says beside it; a rule that is no plain equality as its own text."""
    labels = dict(spec.get("nodeSelector") or {})
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = list(affinity.get("nodeSelectorTerms") or [])
    for term in terms:
        for rule in term.get("matchExpressions") or ():
            values = list(rule.get("values") or [])
            plain = len(terms) == 1 and rule["operator"] == "In" and len(values) == 1
            labels[rule["key"]] = values[0] if plain else f"{rule['operator']} {','.join(values)}".strip()
    return labels


def _takes(node: Object, asked: Asked | None) -> bool:
    """Whether the node, were it empty, fits what `scheduling:` asks."""
    labels, taints = node["metadata"].get("labels") or {}, (node.get("spec") or {}).get("taints") or ()
    tolerated = [_taint(text) for text in asked.tolerates] if asked else []
    hard = [(one["key"], one.get("value", ""), one["effect"]) for one in taints if one["effect"] != "PreferNoSchedule"]
    offered = (node.get("status") or {}).get("allocatable") or {}
    return (
        not (node.get("spec") or {}).get("unschedulable")
        and all(labels.get(key) == value for key, value in (asked.nodes if asked else {}).items())
        and all(one in tolerated for one in hard)
        and all(_amount(offered.get(name, 0)) >= count for name, count in (asked.devices if asked else {}).items())
    )


def _taint(text: str) -> tuple[str, str, str]:
    """key=value:Effect, as kubectl taint writes it."""
    label, _, effect = text.rpartition(":")
    key, _, value = label.partition("=")
    return key, value, effect


def _tolerates(toleration: Object, taint: tuple[str, str, str]) -> bool:
    key, value, effect = taint
    if toleration.get("effect") not in (None, "", effect):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key", "") in ("", key)
    return (toleration.get("key"), toleration.get("value") or "") == (key, value)

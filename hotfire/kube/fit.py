"""Would a node take a pod? The scheduler's required rules, as arithmetic on objects.

Covered: cordon, nodeSelector, required node affinity, taints, resources with extended ones, required pod anti-affinity
and host ports on one node. Not covered, and never guessed: volumes' topology, spread constraints, dynamic resources.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

Object = dict[str, Any]
Amounts = dict[str, Decimal]

PASSING = "node.kubernetes.io/"  # taints that come and go with a node's health
HOSTNAME = "kubernetes.io/hostname"
# The scheduler's words since 1.35 (and in late 1.34: kubernetes#134740), since 1.24, and before: one taint for each node.
TAINTED = r"(\d+) node\(s\) had (?:untolerated taint(?:\(s\)| \{[^}]*\})|taint \{[^}]*\},? that the pod didn't tolerate)"
# Of a node that the pod did not ask for. Where it names nodes, the scheduler looks at no other since 1.24.
ELSEWHERE = r"\d+ node\(s\) didn't (?:match Pod's node affinity(?:/selector)?|satisfy plugin\(s\) \[NodeAffinity\])"
REASON = f"(?:{TAINTED}|{ELSEWHERE})"
REFUSED = re.compile(rf"0/\d+ nodes are available: {REASON}(?:, {REASON})*\.(?: .*)?")  # then what preemption came to


def fits(pod: Object, nodes: Sequence[Object], pods: Iterable[Object], *, ever: bool = False) -> tuple[bool, Sequence[str]]:
    """Whether some node takes the pod, and per reason how many do not: `4 without nvidia.com/gpu`.

    pods: all that may hold something on the nodes, terminating ones too, which count until they are gone; those that
    have ended do not. ever: leave aside what time may clear, a cordon and a node's health.
    """
    others = [one for one in pods if one["metadata"].get("uid") != pod["metadata"].get("uid")]
    against = [_against(pod, node, _holding(others, node), ever) for node in nodes]
    counted = Counter(reason for reasons in against for reason in reasons)
    return any(not reasons for reasons in against), [f"{count} {reason}" for reason, count in counted.most_common()]


def tainted(said: str) -> int:
    """How many nodes refused a pod for a taint, by the scheduler's words; 0 where a node it asked for gave another reason.

    What a node is refused for is the first rule it breaks: cordoned, then tainted, then the pod's own affinity, then full.
    """
    return sum(map(int, re.findall(TAINTED, said))) if REFUSED.fullmatch(said) else 0


def requests(pod: Object) -> Amounts:
    """What the scheduler reserves: the sum over containers and sidecars, or the biggest init container; plus overhead.

    A limit without a request counts as the request, as the API server fills it in.
    """
    spec = pod["spec"]
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _asked(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        asked = _asked(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, asked)
            asked = {}
        for name in asked.keys() | sidecars.keys():
            need = asked.get(name, Decimal(0)) + sidecars.get(name, Decimal(0))
            peak[name] = max(peak.get(name, Decimal(0)), need)
    _add(total, sidecars)
    for name, amount in peak.items():
        total[name] = max(total.get(name, Decimal(0)), amount)
    _add(total, _amounts(spec.get("overhead")))
    return total


def allocatable(node: Object) -> Amounts:
    """What the node offers to pods."""
    return _amounts((node.get("status") or {}).get("allocatable"))


def _asked(container: Mapping[str, Any]) -> Amounts:
    resources = container.get("resources") or {}
    return {**_amounts(resources.get("limits")), **_amounts(resources.get("requests"))}


def _amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    return {name: Decimal(parse_quantity(value)) for name, value in (quantities or {}).items()}  # type: ignore[no-untyped-call]


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _holding(pods: Iterable[Object], node: Object) -> Sequence[Object]:
    name = node["metadata"]["name"]
    ended = ("Succeeded", "Failed")
    return [pod for pod in pods if pod["spec"].get("nodeName") == name and (pod.get("status") or {}).get("phase") not in ended]


def _against(pod: Object, node: Object, held: Sequence[Object], ever: bool) -> list[str]:
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    reasons = []
    if spec.get("nodeName") not in (None, "", node["metadata"]["name"]):
        reasons.append("not the node it names")
    if (node["spec"].get("unschedulable")) and not ever:
        reasons.append("cordoned")
    for key, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            reasons.append(f"without label {key}={value}")
    if not _affine(spec, node, labels):
        reasons.append("outside its node affinity")
    reasons += [
        f"taint {_taint(taint)} not tolerated"
        for taint in node["spec"].get("taints") or ()
        if taint["effect"] != "PreferNoSchedule"
        and not (ever and taint["key"].startswith(PASSING))
        and not any(tolerates(one, taint) for one in spec.get("tolerations") or ())
    ]
    return reasons + _short(pod, node, held) + _excluded(pod, held)


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """The rule of the Kubernetes doc: an empty key with Exists tolerates all, an empty effect every effect."""
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key", "") in ("", taint["key"])
    return (toleration.get("key"), toleration.get("value") or "") == (taint["key"], taint.get("value") or "")


def _taint(taint: Mapping[str, Any]) -> str:
    return f"{taint['key']}={taint['value']}" if taint.get("value") else str(taint["key"])


def _short(pod: Object, node: Object, held: Sequence[Object]) -> list[str]:
    offered, taken = allocatable(node), Amounts()
    for other in held:
        _add(taken, requests(other))
    short = []
    for name, amount in requests(pod).items():
        if amount > offered.get(name, Decimal(0)):
            short.append(f"without {name}" if not offered.get(name) else f"too small in {name}")
        elif amount + taken.get(name, Decimal(0)) > offered[name]:
            short.append(f"full in {name}")
    if "pods" in offered and len(held) + 1 > offered["pods"]:
        short.append("full in pods")
    return short


def _affine(spec: Mapping[str, Any], node: Object, labels: Mapping[str, str]) -> bool:
    wanted = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not wanted:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}

    def term(one: Mapping[str, Any]) -> bool:
        rules = [_matches(rule, labels) for rule in one.get("matchExpressions") or ()]
        rules += [_matches(rule, fields) for rule in one.get("matchFields") or ()]
        return bool(rules) and all(rules)  # an empty term matches nothing

    return any(term(one) for one in wanted.get("nodeSelectorTerms") or ())


def _matches(rule: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    key, operator, allowed = rule["key"], rule["operator"], list(rule.get("values") or ())
    has = values.get(key)
    if operator in ("Gt", "Lt"):
        if has is None or not has.lstrip("-").isdigit():
            return False
        return int(has) > int(allowed[0]) if operator == "Gt" else int(has) < int(allowed[0])
    answers = {"In": has in allowed, "NotIn": has not in allowed, "Exists": has is not None, "DoesNotExist": has is None}
    return bool(answers[operator])


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """A LabelSelector against labels; None selects nothing, an empty one everything."""
    if selector is None:
        return False
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_matches(rule, labels) for rule in selector.get("matchExpressions") or ())


def _excluded(pod: Object, held: Sequence[Object]) -> list[str]:
    reasons = []
    anti = ((pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    for term in anti or ():
        spaces = term.get("namespaces") or [pod["metadata"].get("namespace")]
        beside = [one for one in held if one["metadata"].get("namespace") in spaces]
        if term.get("topologyKey") == HOSTNAME and any(
            selects(term.get("labelSelector"), one["metadata"].get("labels") or {}) for one in beside
        ):
            reasons.append("with a pod that its anti-affinity keeps away from")
    if _ports(pod) & {port for one in held for port in _ports(one)}:
        reasons.append("with its host port taken")
    return reasons


def _ports(pod: Object) -> set[tuple[str, int]]:
    found = [port for container in pod["spec"].get("containers") or () for port in container.get("ports") or ()]
    return {(port.get("protocol", "TCP"), port["hostPort"]) for port in found if port.get("hostPort")}

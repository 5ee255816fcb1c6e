"""Is there room for the way there and for the way back? The rollout played through on paper before anything is deployed.

On full GPUs a surge of one waits for ever, and the revert waits in the same place (facts: faults 4.1, 7). Terminating pods
count until they are gone; quotas are played through beside the nodes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from hotfire.kube.client import Cluster, Forbidden, Object, Ref
from hotfire.kube.fit import allocatable, fits, requests
from hotfire.kube.pods import is_ready, leaving, terminating
from hotfire.rollout.closure import CLAIM, SCALER, closure, is_workload, pointing_at, referred, written
from hotfire.rollout.population import others_of, selected
from hotfire.rollout.snapshot import images_of, running
from hotfire.scenario.images import templates
from hotfire.scenario.model import Located

Amounts = dict[str, Decimal]
ONE_NODE, ONE_POD = "ReadWriteOnce", "ReadWriteOncePod"


@dataclass(frozen=True)
class Change:
    """One workload of the candidate. before: the live object, None where absent; pods: its own, terminating ones too."""

    after: Object
    before: Object | None
    pods: Sequence[Object] = ()

    @property
    def name(self) -> str:
        return str(Ref.of(self.after))


@dataclass(frozen=True)
class Room:
    """What the arithmetic rests on. pods: all on the nodes that may be read; quotas: ResourceQuota objects;
    own: pods of the run's own, which are there before the candidate comes and after it went; whole: whether the pods of all
    namespaces could be read; claims: those that the changes' pods mount, by name, each with its volume where that is known;
    unplayed: workloads of which nobody knows how many pods are of which template."""

    changes: Sequence[Change]
    nodes: Sequence[Object]
    pods: Sequence[Object]
    quotas: Sequence[Object] = ()
    own: Sequence[Object] = ()
    whole: bool = True
    claims: Mapping[str, tuple[Object, Object | None]] = field(default_factory=dict)
    unplayed: Sequence[str] = ()


@dataclass
class _Play:
    """A rollout on paper: pods come and go, and every one that comes must fit."""

    room: Room
    on_nodes: list[Object]
    used: list[tuple[Object, Amounts, Amounts]]  # metadata of the quota, hard, used
    placed: int = 0
    why: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, room: Room) -> "_Play":
        quotas = []
        for quota in room.quotas:
            hard = _amounts((quota.get("status") or {}).get("hard") or quota["spec"].get("hard"))
            quotas.append((quota["metadata"], hard, _amounts((quota.get("status") or {}).get("used"))))
        return cls(room, list(room.pods), quotas)

    def come(self, template: Object, namespace: str) -> Object | None:
        """The pod on a node, or None with `why`."""
        self.placed += 1
        meta = {**(template.get("metadata") or {}), "uid": f"paper-{self.placed}", "namespace": namespace}
        pod: Object = {"metadata": meta, "spec": dict(template["spec"]), "status": {}}
        for name, key, need, hard, used in self._counted(pod):
            if used.get(key, Decimal(0)) + need > hard:
                self.why = [f"quota {name}: {key} {used.get(key, 0)} used + {need} > {hard}"]
                return None
        for node in self.room.nodes:
            if fits(pod, [node], self.on_nodes)[0]:
                pod["spec"]["nodeName"] = node["metadata"]["name"]
                self.on_nodes.append(pod)
                self._charge(pod, 1)
                return pod
        self.why = list(fits(pod, self.room.nodes, self.on_nodes)[1])
        return None

    def go(self, pod: Object) -> None:
        """It has left, and holds nothing any more."""
        self.on_nodes = [one for one in self.on_nodes if one["metadata"]["uid"] != pod["metadata"]["uid"]]
        self._charge(pod, -1)

    def _charge(self, pod: Object, sign: int) -> None:
        for _, key, need, _, used in self._counted(pod):
            used[key] = used.get(key, Decimal(0)) + sign * need

    def _counted(self, pod: Object) -> Iterator[tuple[str, str, Decimal, Decimal, Amounts]]:
        """What the quotas of its namespace count of a pod: quota, key, how much of it, the hard limit, all that is used."""
        asked = _charged(pod)
        for quota, hard, used in self.used:
            if quota["namespace"] == pod["metadata"]["namespace"]:
                for key in asked.keys() & hard.keys():
                    yield quota["name"], key, asked[key], hard[key], used

    def own(self) -> list[str]:
        """The run's own pods take their places; a line for each that finds none."""
        return [
            f"{pod['metadata']['name']}, hotfire's own pod: no room for it: {'; '.join(self.why) or 'no node'}"
            for pod in self.room.own
            if self.come(pod, pod["metadata"]["namespace"]) is None
        ]

    def roll(self, workload: Object, old: Sequence[Object]) -> tuple[list[Object], str]:
        """Replace the old pods by the workload's as its strategy does; the new ones, and why it got stuck."""
        spec, namespace = workload["spec"], workload["metadata"].get("namespace", "")
        want = int(spec.get("replicas", 1) if spec.get("replicas") is not None else 1)
        surge, missing = steps(workload, want)
        left, new = [pod for pod in old if not terminating(pod)], list[Object]()  # the others leave when they leave
        if missing >= max(want, len(left)) and not surge:  # Recreate: all go first
            for gone in left:
                self.go(gone)
            left = []
        while len(new) < want or left:
            pod: Object | None = None
            if len(new) < want and len(new) + len(left) < want + surge:
                pod = self.come(spec["template"], namespace)
            if pod is not None:
                new.append(pod)
            elif left and len(new) + len(left) > want - missing:
                self.go(left.pop())
            else:
                asked = ", ".join(f"{amount} {key}" for key, amount in requests({"spec": spec["template"]["spec"]}).items())
                state = f"{len(new)} of {want} new pods beside {len(left)} old ones (surge {surge}, unavailable {missing})"
                return new, f"stuck at {state}: no room for {asked or 'a pod'}: {'; '.join(self.why) or 'no node'}"
        return new, ""


def steps(workload: Object, want: int) -> tuple[int, int]:
    """How many pods above the wanted number may be, and how many of it may be missing, by the strategy."""
    if workload["kind"] != "Deployment":  # of another kind: what asks for the least room
        return 0, 1
    strategy = workload["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0, want
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), want, math.ceil)
    missing = _share(rolling.get("maxUnavailable", "25%"), want, math.floor)
    return (0, 1) if surge == missing == 0 else (surge, missing)  # the controller's own rule for both being zero


def way_there(room: Room) -> list[str]:
    """What keeps the candidate from being rolled out: a paused Deployment, nodes, quotas. One line each, with the sums."""
    play = _Play.of(room)
    lines = play.own()
    for change in room.changes:
        if change.after["spec"].get("paused") or (change.before or {"spec": {}})["spec"].get("paused"):
            lines.append(f"{change.name} is paused: its controller would roll nothing out")
            continue
        _, stuck = play.roll(change.after, change.pods)
        if stuck:
            lines.append(f"{change.name}: {stuck}")
        lines += [f"{change.name}: {line}" for line in _held_apart(room, change, change.after, change.pods)]
    return lines


def way_back(room: Room) -> list[str]:
    """What keeps the last known good from returning: it is not known, or has no room beside the candidate's pods."""
    lines, play = [], _Play.of(room)
    play.own()  # what finds no room is said by way_there
    for change in room.changes:
        new, stuck = play.roll(change.after, change.pods)
        if stuck:  # said by way_there; on the way back its pods would be in the way all the same
            for pod in change.pods:
                play.go(pod)
        if change.before is None:
            continue
        lines += _unknown(change)
        _, back = play.roll(change.before, new)
        if back:
            lines.append(f"{change.name}, on the way back: {back}")
        lines += [f"{change.name}, on the way back: {line}" for line in _held_apart(room, change, change.before, new)]
    return lines


def _held_apart(room: Room, change: Change, workload: Object, old: Sequence[Object]) -> list[str]:
    """Claims of one pod, or of one node, that a surge would have mounted beside the old pods: each would wait for the other.

    Where pods on several nodes mount a claim now, its volume does not hold to what the claim says.
    """
    spec, lines = workload["spec"], []
    surge, _ = steps(workload, int(spec.get("replicas", 1) or 0))
    pod: Object = {"metadata": {}, "spec": spec["template"]["spec"]}
    for name in sorted(_mounted(pod) & room.claims.keys()) if surge else ():
        claim, volume = room.claims[name]
        modes = claim["spec"].get("accessModes") or []
        places = _where(pod, volume, room.nodes) | _nodes(beside := [one for one in old if name in _mounted(one)])
        shared = len(_nodes([one for one in change.pods if name in _mounted(one)])) > 1
        if beside and (modes == [ONE_POD] or (modes == [ONE_NODE] and len(places) > 1 and not shared)):
            sum_ = f"a surge of {surge} beside {len(beside)} old pods would mount claim {name} ({modes[0]})"
            lines.append(f"{sum_}, on {' or '.join(sorted(places))}: say `strategy: {{type: Recreate}}`")
    return lines


def _where(pod: Object, volume: Object | None, nodes: Sequence[Object]) -> set[str]:
    """Nodes that can ever take the pod, and from which its volume, where that is known, can be reached."""
    bound = ((volume or {"spec": {}})["spec"].get("nodeAffinity") or {}).get("required")
    terms = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": bound}}}
    reaches: Object = {"metadata": {}, "spec": terms if bound else {}}
    every = [node for node in nodes if all(fits(one, [node], (), ever=True)[0] for one in (pod, reaches))]
    return {node["metadata"]["name"] for node in every}


def _nodes(pods: Sequence[Object]) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}


def _mounted(pod: Object) -> set[str]:
    """Names of the claims that a pod mounts."""
    return {ref.name for ref in referred({"spec": {"template": pod}}, "") if ref.kind == CLAIM}


def contested(room: Room) -> list[str]:
    """Devices that a node may have given to pods nobody let us see: how many of them are free is not known."""
    states = [obj for change in room.changes for obj in (change.after, change.before) if obj is not None]
    asked = {key for obj in states for key in requests({"spec": obj["spec"]["template"]["spec"]}) if "/" in key}
    return [] if room.whole else sorted(key for key in asked if any(allocatable(node).get(key) for node in room.nodes))


def _unknown(change: Change) -> list[str]:
    """Why what is there now is no last known good."""
    before = change.before or {}
    want = int(before["spec"].get("replicas", 1))
    if "deletionTimestamp" in before["metadata"]:
        return [f"{change.name} is being deleted"]
    if before["spec"].get("paused"):
        return [f"{change.name} is paused"]
    if (before["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return [f"{change.name} is updated OnDelete: nobody would replace the candidate's pods"]
    staying = [pod for pod in change.pods if not terminating(pod)]
    ready = [pod for pod in staying if is_ready(pod)]
    if len(ready) < want:
        return [f"{change.name}: {len(ready)} of {want} pods serve now, there is no last known good to return to"]
    if want and not images_of(ready):
        return [f"{change.name}: the kubelets report no image digest of its pods"]
    return []


def restless(cluster: Cluster, located: Located, namespace: str) -> Iterator[str]:
    """What keeps a workload that is neither Deployment nor StatefulSet from being known again: it must be at rest now."""
    for ref, other in others_of(located.scenario, namespace).items():
        found = running(cluster, ref, other)
        if found is None:
            there = [pod["metadata"]["name"] for pod in selected(cluster, namespace, other.pods)]
            if there:
                yield f"{ref} is not there, and {', '.join(sorted(there))} with its labels are: no run could tell them apart"
            continue
        strangers = sorted(pod["metadata"]["name"] for pod in (*found.others, *found.leaving))
        ready = [pod for pod in found.pods if is_ready(pod)]
        if not found.owner_uid:
            yield f"{ref}: no ControllerRevision of it says what its spec says: which pods are its spec's cannot be known"
        elif strangers:
            yield f"{ref}: {', '.join(strangers)}: with its labels, but not of its newest revision, or leaving"
        elif not ready or len(ready) < len(found.pods):
            yield f"{ref}: {len(ready)} of {len(found.pods)} pods serve now, there is no last known good to return to"
        if any(one.kind == SCALER[1] for one in pointing_at(cluster, namespace, found.workload)):
            yield f"{ref} is scaled by an autoscaler, which hotfire leaves replicas to at Deployments and StatefulSets alone"


def held(cluster: Cluster, located: Located, namespace: str) -> list[str]:
    """Objects of the closure that somebody is deleting, and new ones that a finalizer would keep on the way back."""
    mine, lines = {Ref.of(obj): obj for obj in written(located, namespace)}, []
    for ref in closure(cluster, located, namespace):
        live = cluster.find(ref)
        if live is not None and (why := leaving(live)):
            lines.append(f"{ref} is {why}: nothing can be put back over it")
        elif live is None and (asked := mine.get(ref, {"metadata": {}})["metadata"].get("finalizers")):
            lines.append(f"{ref} would be new and asks for the finalizer {', '.join(asked)}: it would stay on the way back")
    return lines


def sealed(cluster: Cluster, located: Located, namespace: str) -> list[str]:
    """Configuration that is there and that the candidate would make immutable: the API takes no other content after that."""
    asked = [Ref.of(obj) for obj in written(located, namespace) if obj.get("immutable")]
    return [
        f"{ref} is there and would become immutable: nothing could be put back over it, give the candidate's a new name"
        for ref in asked
        if (live := cluster.find(ref)) is not None and not live.get("immutable")
    ]


def gather(cluster: Cluster, located: Located, namespace: str, own: Sequence[Object] = ()) -> Room:
    """Read what the arithmetic needs; pods of other namespaces count where they may be read. own: as in Room.

    Raises Forbidden: a quota that cannot be seen cannot be counted.
    """
    mine = {Ref.of(obj): obj for obj in written(located, namespace)}
    changes, others, unplayed = [], others_of(located.scenario, namespace), []
    for ref, obj in mine.items():
        if is_workload(ref, others):
            found = running(cluster, ref, others.get(ref))
            before, pods = (found.workload, (*found.pods, *found.leaving, *found.others)) if found else (None, ())
            if ref not in others:
                changes.append(Change(obj, before, pods))
            elif any(len(templates(one)) != 1 for one in (obj, before) if one is not None):
                unplayed.append(str(ref))
            else:
                before = _on_paper(before, len(found.pods)) if before and found else None
                changes.append(Change(_on_paper(obj, others[ref].ready), before, pods))
    whole = True
    try:
        pods = tuple(cluster.list("v1", "Pod"))
    except Forbidden:
        pods, whole = tuple(cluster.list("v1", "Pod", namespace)), False
    spaces = sorted({namespace, *(pod["metadata"]["namespace"] for pod in own)})
    quotas = [quota for space in spaces for quota in cluster.list("v1", "ResourceQuota", space)]
    states = [obj for change in changes for obj in (change.after, change.before) if obj is not None]
    refs = [ref for obj in states for ref in referred(obj, namespace) if ref.kind == CLAIM]
    claims = {ref.name: claim for ref in refs if (claim := cluster.find(ref) or mine.get(ref))}
    held_by = {name: (claim, _volume(cluster, claim)) for name, claim in claims.items()}
    return Room(changes, cluster.list("v1", "Node"), pods, quotas, own, whole, held_by, unplayed)


def _on_paper(workload: Object, count: int) -> Object:
    """One of another kind as the arithmetic knows workloads, with its only pod template and so many pods."""
    return {**workload, "spec": {**workload["spec"], "replicas": count, "template": templates(workload)[0]}}


def _volume(cluster: Cluster, claim: Object) -> Object | None:
    """What the claim is bound to, where it may be read."""
    name = claim["spec"].get("volumeName")
    with suppress(Forbidden):
        return cluster.find(Ref("v1", "PersistentVolume", "", name)) if name else None
    return None


def _charged(pod: Object) -> Amounts:
    """What a quota counts of a pod."""
    asked = requests(pod)
    charged: Amounts = {"pods": Decimal(1), "count/pods": Decimal(1)}
    for key, amount in asked.items():
        charged[f"requests.{key}"] = amount
        if "/" not in key:
            charged[key] = amount
    for container in pod["spec"].get("containers") or ():
        for key, text in ((container.get("resources") or {}).get("limits") or {}).items():
            charged[f"limits.{key}"] = charged.get(f"limits.{key}", Decimal(0)) + _quantity(text)
    return charged


def _amounts(quantities: dict[str, str] | None) -> Amounts:
    return {key: _quantity(text) for key, text in (quantities or {}).items()}


def _quantity(text: str) -> Decimal:
    return Decimal(parse_quantity(text))  # type: ignore[no-untyped-call]


def _share(value: int | str, of: int, rounding: object) -> int:
    if isinstance(value, str) and value.endswith("%"):
        exact = Decimal(value[:-1]) * of / 100
        return math.ceil(exact) if rounding is math.ceil else math.floor(exact)
    return int(value)

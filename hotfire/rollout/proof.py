"""The twelve points that say what is there now (facts: faults 4.2). Each is a question to the cluster, none to our own writes.

PROVEN or UNPROVEN comes from what was read; NOT_APPLICABLE was fixed before the deploy, with its reason, and is never a way
out afterwards. Any UNPROVEN makes the run UNSAFE.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from hotfire.errors import HotfireError
from hotfire.journal.entries import DeleteAdded, DeleteNamespace, FaultBegun, Other
from hotfire.journal.journal import Journal
from hotfire.journal.lease import NotRenewed
from hotfire.journal.store import Stored, fingerprint
from hotfire.kube.client import ApiError, Forbidden, Object, Ref, UnknownKind
from hotfire.kube.pods import containers, grade, is_ready, leaving, terminating
from hotfire.kube.wait import pause
from hotfire.rollout.closure import autoscaled, is_workload
from hotfire.rollout.helm import later
from hotfire.rollout.may_differ import comparable, differences, owners
from hotfire.rollout.owner import last_writer
from hotfire.rollout.patience import Passing
from hotfire.rollout.population import Population, endpoints, selected
from hotfire.rollout.restore import Restore, anchor_ref, namespace_made, swept, was_added
from hotfire.rollout.snapshot import images_of, running, template_hash
from hotfire.scenario.images import templates
from hotfire.words import Grade, Proof

RESTORED = ("target", "landed", "population", "closure", "function", "traffic", "residue")  # together: the way back is gone
SETTLED = ("stability", "devices", "durability")  # after the soak
LAST = ("idempotence", "time")
POINTS = (*RESTORED, *SETTLED, *LAST)


@dataclass(frozen=True)
class Finding:
    """What a point came to. evidence: one line for people, without Secret data."""

    result: Proof
    evidence: str
    data: object = None


def proven(evidence: str, data: object = None) -> Finding:
    """It was read to be so."""
    return Finding(Proof.PROVEN, evidence, data)


def unproven(evidence: str, data: object = None) -> Finding:
    """It was read not to be so, or could not be read."""
    return Finding(Proof.UNPROVEN, evidence, data)


@dataclass
class Scene:
    """What the proof looks at.

    stored: what must be there; probe: one answer through the Service on a fresh connection; reasons: points that do not apply;
    asked: differences from what the manifests ask for, given where the new state is to be proven and not the old one.
    """

    journal: Journal
    stored: Stored
    probe: Callable[[], str] | None
    guard: Callable[[], None]
    images: frozenset[str]
    templates: Mapping[str, str]
    reasons: Mapping[str, str]
    asked: Callable[[], Sequence[str]] | None = None
    soaked: Mapping[str, str] = field(default_factory=dict)
    restored_s: float | None = None

    @classmethod
    def of_old(cls, journal: Journal, stored: Stored, probe: Callable[[], str] | None, guard: Callable[[], None]) -> "Scene":
        """The state before the run, as the journal holds it."""
        body = journal.body
        return cls(journal, stored, probe, guard, frozenset(body.images), body.templates, body.not_applicable)

    @property
    def namespace(self) -> str:
        return self.journal.body.namespace

    @cached_property
    def workloads(self) -> Sequence[Ref]:
        """Those that must be there, also those that serve no API; none of them in a namespace that was empty."""
        return _workloads(self.stored, self.journal.others)

    @cached_property
    def others(self) -> Mapping[Ref, Other]:
        """Those of another kind, with as many pods as the state to be proven has."""
        found = self.journal.others
        return found if self.asked else {ref: one.before for ref, one in found.items()}

    def populations(self) -> dict[Ref, Population | None]:
        """Read now."""
        return {ref: running(self.journal.cluster, ref, self.others.get(ref)) for ref in self.workloads}

    @property
    def added(self) -> Sequence[DeleteAdded]:
        """What must be gone again."""
        added = {one.ref: one for one in self.journal.of_type(DeleteAdded) if one.kind != "PersistentVolumeClaim"}
        return [] if self.asked else list(added.values())

    def namespace_gone(self) -> bool:
        """The run made the namespace and it is no longer there: nothing is left that a point could be about."""
        return bool(self.journal.of_type(DeleteNamespace)) and namespace_made(self.journal) is None


def _workloads(stored: Stored, others: Collection[Ref]) -> list[Ref]:
    return [ref for ref in map(Ref.of, stored.objects) if is_workload(ref, others)]


def applicable(
    stored: Stored, workloads: Sequence[str], served_images: Sequence[str], probe: bool, others: Collection[Ref] = ()
) -> dict[str, str]:
    """Point -> why it does not apply; to be fixed in the journal before anything is deployed.

    workloads: those that serve; others: workloads that are neither Deployment nor StatefulSet.
    """
    known = _workloads(stored, others)
    there = [obj for obj in stored.objects if Ref.of(obj) in known]
    serving = [obj for obj in there if str(Ref.of(obj)) in workloads]
    reasons: dict[str, str] = {}
    for point in ("target", "stability") if not there else ():
        reasons[point] = "no workload was there before: the end is absent"
    if not serving:
        reasons["function"] = "no workload was there before: the end is absent"
    elif not served_images or not any(obj["spec"].get("replicas", 1) for obj in serving):
        reasons["function"] = "no pod served before: there is nothing that could answer"
    elif not probe:
        reasons["function"] = "the run has no way to ask the baseline"
    if not any(_devices(obj) for obj in there) and there:
        reasons["devices"] = "no workload asks for devices"
    return reasons


# -- the points ---------------------------------------------------------------------------------------------------


def target(scene: Scene) -> Finding:
    """What runs is the recorded last known good: template hash and image digests, not merely "the one before"."""
    wrong: list[str] = []
    seen: dict[str, object] = {}
    images, templates = scene.images, scene.templates
    for ref, found in scene.populations().items():
        if found is None:
            wrong.append(f"{ref} is not there")
            continue
        run, now = images_of(found.pods), template_hash(found)
        seen[str(ref)] = {"template": now, "images": sorted(run), "pods": len(found.pods)}
        if templates.get(str(ref), "") and found.wanted and now != templates[str(ref)]:
            wrong.append(f"{ref} runs template {now or 'of no pod'}, {templates[str(ref)]} is expected")
        if images and found.wanted and (not run or not run <= images):
            wrong.append(f"{ref} runs {sorted(run) or 'nothing'}, {sorted(images)} is expected")
    return unproven("; ".join(wrong), seen) if wrong else proven(f"{len(seen)} workloads run what they must", seen)


def landed(scene: Scene) -> Finding:
    """The controllers observed what was written and have finished with it; what was added is gone."""
    wrong, cluster = [], scene.journal.cluster
    for ref, found in scene.populations().items():
        if found is None:
            wrong.append(f"{ref} is not there")
        elif lines := _unfinished(found):  # and why, as the pods tell it: an image that is gone, a full node
            lines += [f"{_name(pod)}: {seen.line}" for pod in found.pods if (seen := grade(pod)).grade is not Grade.HEALTHY]
            wrong += [f"{ref}: {line}" for line in lines]
    for entry in scene.added:
        live = cluster.find(entry.ref)
        if live is not None and was_added(live, entry, scene.journal.body.run):
            wrong.append(f"{entry.ref}, which the run added, is still there{', ' * terminating(live)}{leaving(live)}")
    said = f"{len(scene.workloads)} workloads at their observed generation, {len(scene.added)} added objects gone"
    return unproven("; ".join(wrong)) if wrong else proven(said)


def population(scene: Scene) -> Finding:
    """Only pods of the target are left: zero of the candidate, terminating ones counted."""
    wrong: list[str] = []
    names: list[str] = []
    for ref, found in scene.populations().items():
        if found is None or (found.wanted and not found.owner_uid):
            wrong.append(f"{ref}: its controller has not acted")
            continue
        strangers = [*found.others, *found.leaving]
        wrong += [f"{_name(pod)} of another template{_leaving(pod)}" for pod in strangers]
        if len(found.pods) != found.wanted:
            wrong.append(f"{ref}: {len(found.pods)} pods, {found.wanted} wanted")
        names += [_name(pod) for pod in found.pods]
    for entry in scene.added:
        if entry.labels:
            left = [pod for pod in selected(scene.journal.cluster, scene.namespace, entry.labels) if _name(pod) not in names]
            wrong += [f"{_name(pod)} of {entry.ref}, which is gone{_leaving(pod)}" for pod in left]
    return unproven("; ".join(dict.fromkeys(wrong)), names) if wrong else proven(f"{len(names)} pods, none of others", names)


def closure(scene: Scene) -> Finding:
    """Every object equals the snapshot but for what may differ, absent ones are absent, Secrets rested on are the same.

    Of the new state: every object is as the manifests ask.
    """
    if scene.asked is not None:
        lines = scene.asked()
        return unproven("; ".join(lines), list(lines)) if lines else proven("every object is as the manifests ask")
    wrong: list[str] = []
    remarks: list[str] = []
    cluster = scene.journal.cluster
    for obj in scene.stored.objects:
        ref, live = Ref.of(obj), cluster.find(Ref.of(obj))
        if live is None:
            wrong.append(f"{ref} is not there")
            continue
        scaled = autoscaled(cluster, live, obj)
        lines = differences(comparable(obj, scaled), comparable(live, scaled))
        wrong += [f"{ref}: is not as before"] if lines and ref.kind == "Secret" else [f"{ref}: {line}" for line in lines]
        if owners(obj) != owners(live):
            wrong.append(f"{ref}: managedFields are not as before")
        if obj["metadata"]["uid"] != live["metadata"]["uid"]:
            remarks.append(f"{ref} was recreated")
    for ref in scene.stored.absent:
        if cluster.find(ref) is not None:
            (remarks if ref.kind == "PersistentVolumeClaim" else wrong).append(f"{ref} is there, before it was not")
    wrong += [f"{Ref.of(obj)} is there, a newer revision of its release" for obj in later(cluster, scene.stored.objects)]
    for one in scene.stored.rested:
        live = cluster.find(Ref("v1", "Secret", scene.namespace, one.name))
        if live is None or fingerprint(live, scene.stored.key).hmac != one.hmac:
            wrong.append(
                f"secret/{one.name}: {'is not there' if live is None else 'holds other values'}, nobody of the run wrote it"
            )
    count = len(scene.stored.objects) + len(scene.stored.absent) + len(scene.stored.rested)
    said = f"{count} objects, no difference" + (f" ({'; '.join(remarks)})" if remarks else "")
    return unproven("; ".join(wrong), wrong) if wrong else proven(said)


def function(scene: Scene) -> Finding:
    """It answers, through the Service, on a fresh connection."""
    if scene.probe is None:
        return unproven("nothing was asked: no probe was given")
    try:
        return proven(scene.probe())
    except HotfireError as error:
        return unproven(" ".join(str(error).split()))


def traffic(scene: Scene) -> Finding:
    """Behind each Service are the target's pods, ready, and nothing else."""
    wrong: list[str] = []
    behind: dict[str, list[str]] = {}
    populations = {ref: found for ref, found in scene.populations().items() if found is not None}
    mine = {pod["metadata"]["uid"] for found in populations.values() for pod in found.pods}
    wanted = any(found.wanted for ref, found in populations.items() if str(ref) in scene.journal.body.workloads)
    there = {Ref.of(obj).name for obj in scene.stored.objects if obj["kind"] == "Service"}
    for service in scene.journal.body.services:
        found = endpoints(scene.journal.cluster, scene.namespace, service)
        targets = [(one.get("targetRef") or {}) for one in found]
        behind[service] = sorted(str(one.get("name", "an address without a pod")) for one in targets)
        wrong += [f"{service} reaches {one.get('name', 'an address')}" for one in targets if one.get("uid") not in mine]
        ready = [one for one in found if (one.get("conditions") or {}).get("ready")]
        if service in there and wanted and not ready:
            wrong.append(f"{service} reaches no ready pod")
    return (
        unproven("; ".join(wrong), behind)
        if wrong
        else proven(f"{sum(map(len, behind.values()))} endpoints, all of the target", behind)
    )


def residue(scene: Scene) -> Finding:
    """No fault that is still open, nothing with the run's label, no anchor."""
    wrong = [f"fault {one.fault} was never undone" for one in scene.journal.open_faults if not _gone_with_its_pod(scene, one)]
    if not scene.namespace_gone():
        wrong += [f"{Ref.of(obj)} carries the run's label" for obj in swept(scene.journal)]
        wrong += [f"{anchor_ref(scene.journal)} is there"] if scene.journal.cluster.find(anchor_ref(scene.journal)) else []
        made = [] if scene.asked else scene.journal.of_type(DeleteNamespace)[-1:]  # a kept candidate keeps its namespace
        wrong += [f"namespace {one.name}, which the run made, is there" for one in made]
    return unproven("; ".join(wrong)) if wrong else proven("no open fault, the sweep found nothing of the run")


def _gone_with_its_pod(scene: Scene, fault: FaultBegun) -> bool:
    """A fault that was confined to one pod ends with it, whoever ended the pod."""
    if not fault.uid:
        return False
    live = scene.journal.cluster.find(Ref("v1", "Pod", scene.namespace, fault.pod))
    return live is None or live["metadata"]["uid"] != fault.uid


def stability(scene: Scene) -> Finding:
    """Over the soak: the same containers ran on, ready, none restarted, none new."""
    now = vitals(scene)
    wrong = [
        f"{name}: {before}, then {now.get(name, 'gone')}" for name, before in scene.soaked.items() if now.get(name) != before
    ]
    wrong += [f"{name}: new" for name in now if name not in scene.soaked]
    wrong += [f"{name}: {line}" for name, line in now.items() if not line.startswith("ready")]
    if not now and any(found and found.wanted for found in scene.populations().values()):
        wrong.append("no container is there")
    said = f"{len(now)} containers unchanged for {scene.journal.body.soak_s:g} s"
    return unproven("; ".join(wrong)) if wrong else proven(said, now)


def vitals(scene: Scene) -> dict[str, str]:
    """Pod/container -> what must not change during the soak."""
    return {
        f"{_name(pod)}/{one.name}": f"{'' if one.ready else 'not '}ready, {one.restarts} restarts, {one.container_id[-12:]}"
        for found in scene.populations().values()
        if found is not None
        for pod in found.pods
        for one in containers(pod)
        if not one.init
    }


def devices(scene: Scene) -> Finding:
    """Every device that pods of this namespace hold is held by the target; none is held by what should be gone."""
    mine = {pod["metadata"]["uid"] for found in scene.populations().values() if found for pod in found.pods}
    gone = [
        pod for entry in scene.added if entry.labels for pod in selected(scene.journal.cluster, scene.namespace, entry.labels)
    ]
    there = [pod for found in scene.populations().values() if found for pod in (*found.pods, *found.others, *found.leaving)]
    holding = {
        _name(pod): _asked(pod["spec"]) for pod in (*there, *gone) if _asked(pod["spec"]) and pod["spec"].get("nodeName")
    }
    leaked = [_name(pod) for pod in (*there, *gone) if pod["metadata"]["uid"] not in mine and _name(pod) in holding]
    want = sum(map(_held, filter(None, scene.populations().values())))
    have = sum(sum(asked.values()) for name, asked in holding.items() if name not in leaked)
    if leaked:
        return unproven(f"{', '.join(sorted(set(leaked)))} of the candidate still hold devices", holding)
    return proven(f"{have} devices held by the target, none by others", holding) if have == want else unproven(
        f"{have} devices are held, {want} are asked for", holding
    )  # fmt: skip


def durability(scene: Scene) -> Finding:
    """After the soak it is still so: nobody re-applied the candidate meanwhile."""
    again = closure(scene)
    if again.result is Proof.PROVEN:
        return proven(f"still so {scene.journal.body.soak_s:g} s later; fields are owned as before")
    by = f", written by {', '.join(sorted(writers))}: the way back is theirs" if (writers := set(_written_since(scene))) else ""
    return unproven(f"no longer so after the soak{by}: {again.evidence}", again.data)


def _written_since(scene: Scene) -> Iterator[str]:
    """Who wrote what is no longer as it was put back."""
    for obj in scene.stored.objects:
        live = scene.journal.cluster.find(Ref.of(obj))
        scaled = live is not None and autoscaled(scene.journal.cluster, live, obj)
        if live is not None and comparable(live, scaled) != comparable(obj, scaled):
            yield last_writer(live)


def idempotence(scene: Scene) -> Finding:
    """Restoring once more finds nothing to write."""
    again = Restore(scene.journal, scene.stored, scene.guard)
    writes = again.go()
    return (
        unproven("; ".join((*writes, *again.waiting))) if writes or again.waiting else proven("a second restore wrote nothing")
    )


def time(scene: Scene) -> Finding:
    """It took no longer than declared."""
    limit = scene.journal.body.within_s
    if scene.restored_s is None:
        return unproven(f"not restored, {limit:g} s are allowed")
    said = f"restored after {scene.restored_s:.1f} s, {limit:g} s are allowed"
    return proven(said) if scene.restored_s <= limit else unproven(said)


ASK: Mapping[str, Callable[[Scene], Finding]] = {
    "target": target, "landed": landed, "population": population, "closure": closure, "function": function,
    "traffic": traffic, "residue": residue, "stability": stability, "devices": devices, "durability": durability,
    "idempotence": idempotence, "time": time,
}  # fmt: skip


def judge(scene: Scene, point: str) -> Finding:
    """One point, once."""
    if (reason := scene.reasons.get(point)) is not None:
        return Finding(Proof.NOT_APPLICABLE, reason)
    if scene.namespace_gone() and point not in ("residue", "time"):
        return proven("the namespace that the run made is gone, with everything in it")
    return ASK[point](scene)


def eventually(scene: Scene, point: str, left: Callable[[], float], waits: Callable[[str], None] = lambda why: None) -> Finding:
    """The point, asked again until it is proven or no time is left: terminating pods need theirs, an API server its rest. One
    that refuses gets its moment even where no time is left: that is no answer.

    waits: is told each time why it goes on. Raises LeaseLost: what another has taken over, or what is gone with its
    namespace, is nothing to wait for.
    """
    passing = Passing()
    while True:
        hopeless, refused = point == "function" and scene.probe is None, False
        try:
            found = judge(scene, point)
            hopeless |= point == "closure" and scene.asked is not None  # what is not as asked does not become so by waiting
            passing = Passing()
        except ApiError as error:
            if not passing(error):
                raise
            refused = isinstance(error, Forbidden | UnknownKind)
            found = unproven(f"the API server does not answer: {error.message}")
        if found.result is not Proof.UNPROVEN or hopeless or (left() <= 0 and not refused):
            return found
        waits(f"{point}: {found.evidence}")
        with suppress(NotRenewed):
            scene.guard()
        pause(0.3 if refused else min(0.3, max(0.05, left())))


def _unfinished(found: Population) -> list[str]:
    live, want = found.workload, found.wanted
    status = live.get("status") or {}
    if found.ready is not None:
        ready = len([pod for pod in found.pods if is_ready(pod)])
        lines = [] if found.owner_uid else ["its controller has not seen the generation"]
        return lines + ([] if ready == want else [f"{ready} of its pods are Ready, {want} wanted"])
    if int(status.get("observedGeneration", 0)) < int(live["metadata"]["generation"]):
        return ["its controller has not seen the generation"]
    counts = {key: int(status.get(key, 0)) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return [f"{key} {count}, {want} wanted" for key, count in counts.items() if count != want]


def _devices(workload: Object) -> bool:
    return any(_asked(template["spec"]) for template in templates(workload))


def _held(found: Population) -> int:
    """Devices that the workload's pods must hold; of another kind, whose pods are of several templates, what they ask for."""
    if found.ready is not None:
        return sum(sum(_asked(pod["spec"]).values()) for pod in found.pods)
    return sum(sum(_asked(template["spec"]).values()) for template in templates(found.workload)) * found.wanted


def _asked(spec: Object) -> dict[str, int]:
    """Extended resources of a pod spec; their quantities are whole numbers by the API's rule."""
    asked: dict[str, int] = {}
    for container in spec["containers"]:
        for resource, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if "/" in resource:
                asked[resource] = asked.get(resource, 0) + int(amount)
    return asked


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _leaving(pod: Object) -> str:
    return ", terminating" if terminating(pod) else ""

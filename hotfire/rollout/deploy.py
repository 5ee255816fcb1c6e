"""The exact deploy: new objects by POST, existing ones by PUT, so that nothing of an older version stays behind unseen.

Server-side apply keeps what other managers own, and would certify a hybrid that nobody wrote (DESIGN 3). What a PUT carries
over because it is not the manifest's to say is decided in `carry_over`, in one place, and listed in the record.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from hotfire.errors import Breach, HarnessError
from hotfire.journal.entries import DeleteAdded, Entry, Other, PutBack, ReplacePods
from hotfire.journal.journal import Journal
from hotfire.kube.client import Cluster, Conflict, Invalid, Object, Ref, Unreachable
from hotfire.kube.pods import stamp
from hotfire.record.events import Deployed
from hotfire.rollout.closure import CLAIM, WORKLOADS, autoscaled, is_workload, referred
from hotfire.rollout.may_differ import ANNOTATIONS, comparable, differences
from hotfire.rollout.owner import BOOKKEEPING
from hotfire.rollout.probes import RUN_LABEL, labelled
from hotfire.rollout.snapshot import running
from hotfire.scenario.images import below, templates
from hotfire.words import Blame

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TRIES = 5  # a controller writes status at the same time: the PUT is made again from what is there now


def carry_over(manifest: Object, live: Object, scaled: bool) -> tuple[Object, list[str]]:
    """The manifest as it must be PUT over the live object, and what was carried over from it, each with the reason.

    scaled: an autoscaler owns the replicas.
    """
    new, old = copy.deepcopy(manifest), live["metadata"]
    meta: dict[str, Any] = new["metadata"]
    carried: list[str] = []
    for key in ("finalizers", "ownerReferences"):
        if old.get(key) and key not in meta:
            meta[key] = old[key]
            carried.append(f"metadata.{key}: set by others")
    for key in foreign_annotations(manifest, live):
        meta["annotations"] = {**(meta.get("annotations") or {}), key: old["annotations"][key]}
        carried.append(f"metadata.annotations[{key}]: set by others")
    spec, was = new.get("spec") or {}, live.get("spec") or {}
    if new["kind"] in WORKLOADS and (scaled or spec.get("replicas") is None):
        spec["replicas"] = was.get("replicas", 1)
        carried.append("spec.replicas: " + ("an autoscaler owns it" if scaled else "the manifest is silent"))
    if new["kind"] == "Service":
        carried += _carry_service(spec, was)
    if new["kind"] == "ServiceAccount" and "secrets" in live and "secrets" not in new:
        new["secrets"] = live["secrets"]
        carried.append("secrets: token Secrets, made by the cluster")
    meta |= {"resourceVersion": old["resourceVersion"], "uid": old["uid"]}
    return new, carried


def foreign_annotations(manifest: Object, live: Object) -> list[str]:
    """Live annotations that neither this manifest nor the one its owner applied last wrote."""
    old = live["metadata"].get("annotations") or {}
    applied = json.loads(old.get(LAST_APPLIED) or "{}").get("metadata", {}).get("annotations") or {}
    mine = manifest["metadata"].get("annotations") or {}
    return [key for key in old if key not in mine and key not in applied]


def _carry_service(spec: dict[str, Any], was: dict[str, Any]) -> list[str]:
    carried: list[str] = []
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"):
        if key in was and key not in spec:
            spec[key] = was[key]
            carried.append(f"spec.{key}: allotted by the cluster")
    ports = {(port.get("name"), port["port"]): port for port in was.get("ports") or ()}
    for port in spec.get("ports") or ():
        old = ports.get((port.get("name"), port["port"]), {})
        if "nodePort" in old and "nodePort" not in port and spec.get("type") in ("NodePort", "LoadBalancer"):
            port["nodePort"] = old["nodePort"]
            carried.append(f"spec.ports[{port['port']}].nodePort: allotted by the cluster")
    return carried


def owned(obj: Object, anchor: Object) -> Object:
    """A new object carries the run's label and belongs to its anchor, so that it goes when the anchor goes.

    Not so a claim: it is never deleted, by nobody's garbage collector either.
    """
    new = copy.deepcopy(obj)
    if new["kind"] == CLAIM:
        return new
    meta, of = new["metadata"], anchor["metadata"]
    meta["labels"] = {**(meta.get("labels") or {}), RUN_LABEL: of["labels"][RUN_LABEL]}
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": of["name"], "uid": of["uid"]}
    meta["ownerReferences"] = [*(meta.get("ownerReferences") or ()), owner]
    return new


def pod_labels(obj: Object, others: Mapping[Ref, Other]) -> dict[str, str]:
    """Those that select a workload's pods; none for an object that is no workload, or selects otherwise."""
    if (other := others.get(Ref.of(obj))) is not None:
        return other.pods
    return dict(below(obj, "spec", "selector", "matchLabels") or {}) if templates(obj) else {}


def _edited_at(live: Object) -> datetime:
    """When it got what it holds, by the API server's clock."""
    meta = live["metadata"]
    times = [one["time"] for one in meta.get("managedFields") or () if one.get("time")]
    return max(map(stamp, [meta["creationTimestamp"], *times]))


class Deploy:
    """One rollout of the candidate's manifests over what the snapshot saw."""

    def __init__(
        self,
        cluster: Cluster,
        objects: Sequence[Object],
        before: Mapping[Ref, Object | None],
        journal: Journal,
        anchor: Object,
        guard: Callable[[], None],
        by_pipeline: bool = False,
    ) -> None:
        """objects: as `closure.written` gives them; guard: raises LeaseLost when the run may no longer write.

        by_pipeline: another deploys them, and leaves its bookkeeping on them; `apply` is not for it.
        """
        self.cluster, self.objects, self.before = cluster, objects, before
        self.journal, self.anchor, self.guard = journal, anchor, guard
        self.by_pipeline = by_pipeline
        self.sent: dict[Ref, Object] = {}

    def apply(self) -> Deployed:
        """Write every object; the entries that undo it all are in the journal first, anew for each deploy.

        Raises Breach when the server refuses an object (the candidate's blame), and when somebody changed one since the
        snapshot (the platform's): what is not in the snapshot could not be put back.
        """
        self.journal.record(*self.undo())
        return Deployed(objects=tuple(self._write(obj) for obj in self.objects))

    def add(self, obj: Object) -> Object:
        """An object of the run's own beside the candidate's (a NodePort Service, a copied Secret); undone like the rest."""
        self.journal.record(DeleteAdded.of(Ref.of(obj), own=True))
        self.guard()
        return self.cluster.create(owned(obj, self.anchor))

    def undo(self) -> Iterator[Entry]:
        """What undoes a deploy of these objects, to be durable before it."""
        for obj in self.objects:
            ref = Ref.of(obj)
            if (old := self.before[ref]) is not None:
                if ref.kind != CLAIM:
                    yield PutBack.of(ref, uid=old["metadata"]["uid"])
            else:
                yield DeleteAdded.of(ref, labels=pod_labels(obj, self.journal.others), pipelines=self.by_pipeline)
        edited = {ref for obj in self.objects if self._edits(obj) for ref in [Ref.of(obj)]}
        for ref, old in self.before.items():
            if old is not None and is_workload(ref, self.journal.others) and edited & set(referred(old, ref.namespace)):
                yield ReplacePods.of(ref)

    def _edits(self, obj: Object) -> bool:
        """Whether configuration that is there gets other contents: pods of the old template may come to run on them."""
        old = self.before[Ref.of(obj)]
        if old is None or obj["kind"] not in ("ConfigMap", "Secret"):
            return False
        new = self._rehearsed(obj) if obj["kind"] == "Secret" else obj  # stringData becomes data
        return any((new.get(key) or {}) != (old.get(key) or {}) for key in ("data", "binaryData"))

    def _write(self, obj: Object) -> dict[str, Any]:
        ref, before = Ref.of(obj), self.before[Ref.of(obj)]
        carried: list[str] = []
        try:
            if before is None:
                how, done = "created", self._create(obj)
            elif ref.kind == CLAIM:
                how, done = "left alone: a claim is never changed", before
            else:
                how = "replaced"
                done, carried = self._replace(obj, before)
        except Invalid as refused:
            raise Breach(f"{ref}: the API server refuses it: {refused.message}", blame=Blame.CANDIDATE) from None
        self.sent[ref] = done
        meta = done["metadata"]
        return {
            "object": str(ref), "how": how, "uid": meta["uid"], "generation": meta.get("generation"), "carried": carried
        }  # fmt: skip

    def _create(self, obj: Object) -> Object:
        """POST. A lost acknowledgement is looked up: what carries this run's label is ours."""
        ref, new = Ref.of(obj), owned(obj, self.anchor)
        self.guard()
        try:
            return self.cluster.create(new)
        except (Conflict, Unreachable) as error:
            live = self.cluster.find(ref)
            if live is not None and self._ours(ref, live):
                return live
            if isinstance(error, Conflict):
                raise Breach(f"{ref}: somebody created it since the snapshot", blame=Blame.PLATFORM) from None
            raise

    def _ours(self, ref: Ref, live: Object) -> bool:
        """By the run's label; a claim has none, and outlives the rehearsal of its own run."""
        if ref.kind == CLAIM:
            return ref in self.sent and live["metadata"]["uid"] == self.sent[ref]["metadata"]["uid"]
        return labelled(live, self.anchor["metadata"]["labels"][RUN_LABEL])

    def _replace(self, obj: Object, before: Object) -> tuple[Object, list[str]]:
        """PUT. Made again after a conflict or a lost acknowledgement, from what is there then."""
        ref, scaled = Ref.of(obj), autoscaled(self.cluster, before)
        sent = False
        for attempt in range(TRIES):
            live = self.cluster.get(ref)
            if not sent and (lines := differences(comparable(before, scaled), comparable(live, scaled))):
                told = [] if ref.kind == "Secret" else lines  # never its values, which the redactor may not know
                raise Breach(f"{ref}: somebody changed it since the snapshot", blame=Blame.PLATFORM, details=told)
            new, carried = carry_over(obj, live, scaled)
            self.guard()
            try:
                return self.cluster.replace(new), carried
            except Conflict:
                if attempt == TRIES - 1:
                    raise
            except Unreachable:
                sent = True
                if attempt == TRIES - 1:
                    raise
        raise HarnessError(f"replace {ref}: tried {TRIES} times")

    # -- is it what was asked for? --------------------------------------------------------------------------------

    def differences(self) -> tuple[int, list[str]]:
        """How many objects were compared, and where what is live is not what was asked for.

        Workloads: the live spec against a dry-run create of the manifest under another name, so that the server's own
        defaults stand on both sides. Other kinds: the manifest, field by field; data of a ConfigMap or Secret exactly.
        """
        wrong: list[str] = []
        for obj in self.objects:
            ref = Ref.of(obj)
            live = self.cluster.find(ref)
            if live is None:
                wrong.append(f"{ref}: is not there")
                continue
            if ref in self.sent and live["metadata"]["uid"] != self.sent[ref]["metadata"]["uid"]:
                wrong.append(f"{ref}: another object of that name, uid {live['metadata']['uid']}")
            wrong += [f"{ref}: {line}" for line in (*self._metadata(obj, live), *self._body(obj, live))]
        return len(self.objects), [*wrong, *self._unread()]

    def _unread(self) -> Iterator[str]:
        """Pods that were there before configuration which they read was edited: they run on what it held then."""
        live = {ref: self.cluster.find(ref) for obj in self.objects if self._edits(obj) for ref in [Ref.of(obj)]}
        edited = {ref: _edited_at(one) for ref, one in live.items() if one is not None}
        for obj in self.objects:
            ref = Ref.of(obj)
            read = {one: at for one, at in edited.items() if one in set(referred(obj, ref.namespace))}
            if not read or not is_workload(ref, self.journal.others):
                continue
            found = running(self.cluster, ref, self.journal.others.get(ref))
            old = [
                pod for pod in (found.pods if found else ()) if stamp(pod["metadata"]["creationTimestamp"]) < max(read.values())
            ]
            if old:
                yield (
                    f"{ref}: {len(old)} pods were there before {', '.join(map(str, read))} was edited, and run on its old "
                    "contents: give the candidate's a new name, or name a checksum of it in the pods' template"
                )

    def _metadata(self, obj: Object, live: Object) -> list[str]:
        """Labels exactly, but for the run's; annotations exactly, but for those carried over or a controller's."""
        said = obj["metadata"].get("labels") or {}
        theirs = BOOKKEEPING if self.by_pipeline else frozenset()
        has = live["metadata"].get("labels") or {}
        labels = {key: value for key, value in has.items() if key in said or key not in (RUN_LABEL, *theirs)}
        lines = differences(said, labels, "metadata.labels")
        asked = obj["metadata"].get("annotations") or {}
        before = self.before.get(Ref.of(obj))
        carried = foreign_annotations(obj, before) if before else []
        has = live["metadata"].get("annotations") or {}
        mine = {key: value for key, value in has.items() if key in asked or key not in (*carried, *ANNOTATIONS, *theirs)}
        return lines + ([] if obj["kind"] == CLAIM else differences(asked, mine, "metadata.annotations"))

    def _body(self, obj: Object, live: Object) -> list[str]:
        if is_workload(Ref.of(obj), self.journal.others):
            asked: dict[str, Any] = self._rehearsed(obj)["spec"]
            if obj["kind"] in WORKLOADS and (obj["spec"].get("replicas") is None or autoscaled(self.cluster, live)):
                asked["replicas"] = live["spec"]["replicas"]
            return differences(asked, live["spec"], "spec")
        if obj["kind"] == "Secret":  # never the values themselves in a message
            same = (live.get("data") or {}) == (self._rehearsed(obj).get("data") or {})
            return [] if same else ["data: is not as in the manifest"]
        body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
        if obj["kind"] == "ConfigMap":
            keys = ("data", "binaryData", "immutable")
            return differences({key: body.get(key) or {} for key in keys}, {key: live.get(key) or {} for key in keys})
        return differences(body, {key: live[key] for key in body if key in live}, subset=True)

    def _rehearsed(self, obj: Object) -> Object:
        """The object as the server would create it, under a name that nothing has."""
        meta = {**obj["metadata"], "name": f"hotfire-dry-run-{obj['metadata']['name']}"[:63].rstrip("-.")}
        return self.cluster.create({**obj, "metadata": meta}, dry_run=True)

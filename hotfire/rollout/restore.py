"""The way back: put the snapshot where it was, object by object, then take away what the run added. Safe to repeat.

`kubectl rollout undo` brings back a pod template alone, of whichever revision is second (facts: faults 4.1). Here every object
of the closure is PUT as it was, and its managedFields are set back, so that the owner's next apply, by client or by server,
finds nothing to do and nobody to conflict with.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from hotfire.errors import HarnessError
from hotfire.journal.entries import DeleteAdded, DeleteNamespace, ReplacePods, SuspendSync
from hotfire.journal.journal import Journal
from hotfire.journal.store import Stored
from hotfire.kube.client import ApiError, Conflict, Forbidden, Invalid, NotFound, Object, Ref, UnknownKind
from hotfire.kube.deletion import delete_while
from hotfire.kube.pods import is_ready, leaving, terminating
from hotfire.rollout.closure import CONFIG, autoscaled, rank
from hotfire.rollout.helm import installed, later, same_revision
from hotfire.rollout.may_differ import ANNOTATIONS, comparable, owners
from hotfire.rollout.population import Population, population
from hotfire.rollout.probes import RUN_LABEL, labelled
from hotfire.rollout.sync import resuming, suspending, syncs, under_way

TRIES = 5
QUIET_S = 2.0  # an owner that has just been suspended may still act on what it read before, and say so only then
SERVERS_OWN = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")
SWEPT = (  # where a label sweep looks; claims are not in it, they are never deleted
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.k8s.io/v1", "Ingress"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
)


def anchor_name(run: str) -> str:
    """Of the ConfigMap that owns everything a run creates."""
    return f"hotfire-anchor-{run.lower()}"


def anchor_ref(journal: Journal) -> Ref:
    """The run's anchor; in a created namespace it goes with it."""
    return Ref("v1", "ConfigMap", journal.body.namespace, anchor_name(journal.body.run))


class Restore:
    """One way back, from a journal alone.

    After `go`, `writes` says what it changed and `waiting` what cannot be done yet: go again. Once both are empty, a further
    `go` changes nothing.
    """

    def __init__(self, journal: Journal, stored: Stored, guard: Callable[[], None]) -> None:
        """guard: raises LeaseLost when this process may no longer write."""
        self.journal, self.stored, self.guard, self.cluster = journal, stored, guard, journal.cluster
        self.writes: list[str] = []
        self.waiting: list[str] = []
        self.refused: list[ApiError] = []
        self.quiet_at = 0.0

    def go(self) -> list[str]:
        """What was written, one line each; empty when all was as it should be.

        Raises ApiError in passing trouble: call it again. First nobody applies the candidate again; then what it added beside
        the workload goes, so that nothing of it scales, fences or holds devices; then configuration comes back before the pods
        that read it. An object that the server refuses keeps no other from its place; it is raised once nothing else waits.
        """
        self.writes, self.waiting, self.refused = [], [], []
        self._suspend()
        added = {entry.ref: entry for entry in self.journal.of_type(DeleteAdded)}
        theirs = [ref for ref, entry in added.items() if entry.pipelines]
        for obj in installed(self.cluster, self.journal.body.namespace, theirs, self.journal.body.releases):
            self._delete(obj, partial(same_revision, obj))
        for entry in [entry for ref, entry in added.items() if ref.kind not in CONFIG]:
            self._delete_added(entry)
        for obj in sorted(self.stored.objects, key=lambda obj: rank(obj["kind"])):
            if obj["kind"] != "PersistentVolumeClaim":
                try:
                    self._put_back(obj)
                except (Invalid, Forbidden, UnknownKind) as error:
                    self.refused.append(error)
        if self.refused:  # what serves may rest on all that is left, and read configuration that is not back
            self._unstick()
            self._raise_refused()
            return self.writes
        for entry in [entry for ref, entry in added.items() if ref.kind in CONFIG and ref.kind != "PersistentVolumeClaim"]:
            self._delete_added(entry)
        for obj in later(self.cluster, self.stored.objects):
            self._delete(obj, partial(same_revision, obj))
        self._replace_pods()
        self._unstick()
        for obj in swept(self.journal):
            self._delete(obj, self._ours)
        if (anchor := self.cluster.find(anchor_ref(self.journal))) is not None:
            self._delete(anchor)
        self._delete_namespace()
        return self.writes

    def _raise_refused(self) -> None:
        """All of them as one, of the class that may pass if there is one."""
        lines = "; ".join(error.message for error in self.refused)
        if self.waiting:
            self.waiting.append(lines)
            return
        error = min(self.refused, key=lambda one: isinstance(one, Invalid))
        raise type(error)(error.status, error.reason, lines, error.body)

    def rehearse(self) -> int:
        """Every write of the way back as a dry run on what is there now; how many. Raises what the first of them would."""
        objects = [obj for obj in self.stored.objects if obj["kind"] != "PersistentVolumeClaim"]
        for obj in objects:
            live = self.cluster.find(Ref.of(obj))
            if live is not None and not terminating(live):
                self.cluster.replace(_over(obj, live, False), dry_run=True)
        if (anchor := self.cluster.find(anchor_ref(self.journal))) is not None:
            self.cluster.delete(Ref.of(anchor), uid=anchor["metadata"]["uid"], dry_run=True)
        absent = [ref for ref in self.stored.absent if ref.kind != "PersistentVolumeClaim"]
        gone = dict.fromkeys([(ref.api_version, ref.kind) for ref in absent] + [("v1", "Pod")])
        for api_version, kind in gone:
            self._may_delete(api_version, kind)
        for entry in self.journal.of_type(DeleteNamespace):
            if entry.uid:  # without one it says only that the run was about to make it
                self.cluster.delete(Ref("v1", "Namespace", "", entry.name), uid=entry.uid, dry_run=True)
        for one in self.journal.body.syncs if self.journal.body.suspend else ():
            self.cluster.patch(one.ref, suspending(self.cluster.get(one.ref)), dry_run=True)
        return len(objects) + len(gone)

    def _may_delete(self, api_version: str, kind: str) -> None:
        plural, group = self.cluster.resource(api_version, kind)[0], api_version.rpartition("/")[0]
        if not self.cluster.can("delete", plural, group=group, namespace=self.journal.body.namespace):
            raise HarnessError(f"not allowed to delete {plural} in {self.journal.body.namespace}")

    # -- who would apply the candidate again ----------------------------------------------------------------------

    def _suspend(self) -> None:
        """With what resumes it in the journal first. A sync that began before goes on: what it applies is put back again."""
        for ref in [one.ref for one in self.journal.body.syncs if self.journal.body.suspend and not self.journal.untouched]:
            owner = self.cluster.find(ref)
            if owner is not None and syncs(owner):
                self.guard()
                intent = SuspendSync.of(ref, resume=resuming(owner))
                if intent not in self.journal.of_type(SuspendSync):
                    self.journal.record(intent)
                owner = self.cluster.patch(ref, suspending(owner))
                self.writes.append(f"suspended {ref.whole}")
                self.quiet_at = time.monotonic() + QUIET_S
            if owner is not None and (under_way(owner) or time.monotonic() < self.quiet_at):
                self.waiting.append(f"{ref.whole} is suspended, but a sync that it began before may not be over")

    # -- what was there -------------------------------------------------------------------------------------------

    def _put_back(self, obj: Object) -> None:
        ref = Ref.of(obj)
        for attempt in range(TRIES):
            try:
                live = self.cluster.find(ref)
                if live is None:
                    live = self._create(obj)
                if why := leaving(live):
                    self.waiting.append(f"{ref} is {why}: it is made again when it is gone")
                    return
                scaled = autoscaled(self.cluster, live, obj)
                if comparable(live, scaled) != comparable(obj, scaled):
                    live = self._write(_over(obj, live, scaled), "put back")
                if owners(live) != owners(obj):
                    self._write(_owned_as_before(obj, live), "managedFields of")
                return
            except Conflict:  # a controller wrote its status at the same time
                if attempt == TRIES - 1:
                    raise

    def _create(self, obj: Object) -> Object:
        """It was deleted meanwhile: made again under a new UID."""
        new = copy.deepcopy(obj)
        new.pop("status", None)
        new["metadata"] = {key: value for key, value in new["metadata"].items() if key not in SERVERS_OWN}
        self.guard()
        made = self.cluster.create(new)
        self.writes.append(f"recreated {Ref.of(obj)}")
        return made

    def _write(self, obj: Object, what: str) -> Object:
        self.guard()
        done = self.cluster.replace(obj)
        self.writes.append(f"{what} {Ref.of(obj)}")
        return done

    # -- what was added -------------------------------------------------------------------------------------------

    def _delete_added(self, entry: DeleteAdded) -> None:
        if (live := self.cluster.find(entry.ref)) is not None:
            self._delete(live, partial(was_added, entry=entry, run=self.journal.body.run))

    def _ours(self, live: Object) -> bool:
        return labelled(live, self.journal.body.run)

    def _delete(self, live: Object, still: Callable[[Object], bool] = lambda live: True) -> None:
        if delete_while(self.cluster, live, still, self.guard):
            self.writes.append(f"deleted {Ref.of(live)}")

    def _delete_namespace(self) -> None:
        """A namespace that this run created: by the UID that the creation gave it, and with the run's label on it."""
        live = namespace_made(self.journal)
        if live is None or not self._ours(live):
            return
        made = DeleteNamespace(name=live["metadata"]["name"], uid=live["metadata"]["uid"])
        if made not in self.journal.of_type(DeleteNamespace):
            self.guard()
            self.journal.record(made)
        self._delete(live, self._ours)

    # -- pods -----------------------------------------------------------------------------------------------------

    def _replace_pods(self) -> None:
        """Pods of an unchanged template that may have read the edited configuration. Which ones is written down once after
        each deploy, when the configuration is back: pods made from then on read the old one."""
        for ref, uids in {entry.ref: entry.uids for entry in self.journal.of_type(ReplacePods)}.items():
            if (found := self._population(ref)) is None:
                continue
            pods = [pod for pod in (*found.pods, *found.leaving, *found.others) if not terminating(pod)]
            if uids is None:
                uids = tuple(pod["metadata"]["uid"] for pod in pods)
                self.journal.record(ReplacePods.of(ref, uids=uids))
            self._delete_few(found.wanted, [pod for pod in pods if pod["metadata"]["uid"] in uids], pods)

    def _delete_few(self, wanted: int, doomed: Sequence[Object], pods: Sequence[Object]) -> None:
        """Those that do not serve, and of the others as many as leave all but one of the wanted serving."""
        may_go = len([pod for pod in pods if is_ready(pod)]) - max(0, wanted - 1)
        for pod in sorted(doomed, key=is_ready):
            may_go -= is_ready(pod)
            if is_ready(pod) and may_go < 0:
                self.waiting.append(f"{Ref.of(pod)} ran on the candidate's configuration, its turn comes")
            else:
                self._delete(pod)

    def _unstick(self) -> None:
        """A StatefulSet waits for a broken pod to become ready before it replaces it (kubernetes#67250): delete it."""
        for obj in self.stored.objects:
            if obj["kind"] != "StatefulSet":
                continue
            found = self._population(Ref.of(obj))
            if found is None:
                continue
            if not found.owner_uid:
                self.waiting.append(f"{Ref.of(obj)} was not looked at by its controller yet")
            for pod in found.others if found.owner_uid else ():
                if not is_ready(pod):
                    self._delete(pod)

    def _population(self, ref: Ref) -> Population | None:
        """None for a workload that has gone since it was looked at: waited for, it is made again."""
        try:
            other = self.journal.others.get(ref)
            return population(self.cluster, ref, other.before if other else None)
        except NotFound:
            self.waiting.append(f"{ref} has just gone: it is made again")
            return None


def _over(obj: Object, live: Object, scaled: bool) -> Object:
    """The snapshot as it must be PUT over what is there now."""
    new = copy.deepcopy(obj)
    new.pop("status", None)
    meta, now = new["metadata"], live["metadata"]
    for key in SERVERS_OWN:
        meta.pop(key, None)
    meta |= {"uid": now["uid"], "resourceVersion": now["resourceVersion"]}
    for key in ANNOTATIONS:
        if key in (now.get("annotations") or {}):
            meta["annotations"] = {**(meta.get("annotations") or {}), key: now["annotations"][key]}
    if scaled:
        new["spec"]["replicas"] = live["spec"]["replicas"]
    return new


def _owned_as_before(obj: Object, live: Object) -> Object:
    """A PUT that changes nothing but who owns which field. Sent in one with the content it would be credited to us."""
    kept = [entry for entry in live["metadata"].get("managedFields") or () if entry.get("subresource") == "status"]
    back = [entry for entry in obj["metadata"].get("managedFields") or () if entry.get("subresource") != "status"]
    return {**live, "metadata": {**live["metadata"], "managedFields": back + kept}}


def was_added(live: Object, entry: DeleteAdded, run: str) -> bool:
    """Only what carries the run's label: a name alone may be somebody else's by now. A pipeline writes none."""
    return entry.pipelines or labelled(live, run)


def namespace_made(journal: Journal) -> Object | None:
    """The very namespace that this run made, while it is there: by UID. A run that died, or heard no answer, before it could
    write that down made the one that carries its label."""
    made = journal.of_type(DeleteNamespace)
    live = journal.cluster.find(Ref("v1", "Namespace", "", made[-1].name)) if made else None
    if live is None:
        return None
    uid = made[-1].uid
    return live if (live["metadata"]["uid"] == uid if uid else labelled(live, journal.body.run)) else None


def swept(journal: Journal) -> Iterator[Object]:
    """Everything in the namespace that carries the run's label, but for its anchor; kinds that may not be read are left out."""
    anchor = anchor_ref(journal).name
    for api_version, kind in SWEPT:
        try:
            found = journal.cluster.list(api_version, kind, journal.body.namespace, f"{RUN_LABEL}={journal.body.run}")
        except (Forbidden, UnknownKind):
            continue
        yield from (obj for obj in found if obj["metadata"]["name"] != anchor)

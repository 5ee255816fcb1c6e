"""One run's change and its way back, in the order in which a run goes through them.

rollout = Rollout.open(cluster, located, namespace, run, emit=emit)   # Leases and journal; raises Refused, BadInput
rollout.arm(can_ask=True)              # snapshot, anchor: the way back is stored before anything changes
rollout.apply()                        # exact deploy
rollout.differences()                  # is it what was asked for?
rollout.anchor_head(head)              # at stage ends
ending = rollout.settle(decision, why, head, probe=old, new_probe=new)
rollout.close(verdict)                 # tombstone, Lease free
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from hotfire.errors import BadInput, HarnessError, Unjudged
from hotfire.journal.entries import Asked, DeleteNamespace, Entry, FaultBegun, FaultEnded, OnObject
from hotfire.journal.journal import Body, Journal, name_for
from hotfire.journal.lease import Lease
from hotfire.journal.store import fetch, keep
from hotfire.kube.client import ApiError, Cluster, Forbidden, Invalid, Object, Ref
from hotfire.kube.wait import shielded
from hotfire.record.events import Anchored, Armed, Changed, Deployed, Event, GoesOn
from hotfire.rollout import job as watchdog
from hotfire.rollout import pullable
from hotfire.rollout.armed import ByWatchdog, ask
from hotfire.rollout.closure import CLAIM, written
from hotfire.rollout.deploy import Deploy, pod_labels
from hotfire.rollout.helm import names
from hotfire.rollout.population import others_of, ref_of
from hotfire.rollout.probes import RUN_LABEL
from hotfire.rollout.proof import applicable
from hotfire.rollout.restore import anchor_name, anchor_ref
from hotfire.rollout.settle import Ending, Executor, InProcess, Probe, Settling
from hotfire.rollout.snapshot import Snapshot, take
from hotfire.rollout.sync import syncing
from hotfire.rollout.takeover import make_way
from hotfire.rollout.waiting import hand_over, take_back
from hotfire.scenario.images import containers
from hotfire.scenario.model import Located, Scenario
from hotfire.scenario.size import most_s
from hotfire.words import IN_PROCESS, Blame, Decision, Mode, Reason, State, Verdict


class Rollout:
    """Holds the run's Leases and journal. Every write goes through `lease.guard`."""

    def __init__(self, located: Located, namespace: str, journal: Journal, lease: Lease, emit: Callable[[Event], None]) -> None:
        self.located, self.namespace, self.journal, self.lease, self.emit = located, namespace, journal, lease, emit
        self.cluster: Cluster = journal.cluster
        self.executor: Executor = InProcess()
        self.snapshot: Snapshot | None = None
        self.anchor: Object | None = None
        self.ending: Ending | None = None
        self._deploy: Deploy | None = None

    @classmethod
    def open(
        cls,
        cluster: Cluster,
        located: Located,
        namespace: str,
        run: str,
        *,
        emit: Callable[[Event], None],
        wait_s: float = 0,
        home: str = "",
        tell: Callable[[str], None] = lambda line: None,
    ) -> "Rollout":
        """Take the Leases and open the journal; emits nothing. home: where they lie, the namespace itself by default.

        Raises Refused when another run holds the workload or has left it unfinished; BadInput when a certify would go where
        its objects already are.
        """
        scenario, home = located.scenario, home or namespace
        workloads = [serves.key for serves in scenario.candidate.serves]
        wait_s = make_way(cluster, home, workloads, namespace, run, wait_s, tell)
        lease = Lease.take(cluster, home, workloads, run, scenario.lock.lease, wait_s=wait_s, namespace=namespace)
        try:
            if scenario.mode is not Mode.PROMOTE and (there := occupied(cluster, located, namespace)):
                raise BadInput(
                    f"{located.where('stand', 'namespace')}: {namespace} already holds {', '.join(there)}: "
                    f"{scenario.mode} goes where nobody is served from, or `mode: promote`"
                )
            owners, _ = syncing(cluster, located, namespace)
            journal = Journal.open(cluster, home, _body(located, namespace, run, owners))
        except BaseException:
            lease.release()
            raise
        return cls(located, namespace, journal, lease, emit)

    # -- before anything changes ----------------------------------------------------------------------------------

    def create_namespace(self) -> None:
        """For `stand.create`: made by this run, with its label; deleted at the end by the UID that this returns."""
        self.journal.record(DeleteNamespace(name=self.namespace))
        self.lease.guard()
        meta = {"name": self.namespace, "labels": {RUN_LABEL: self.journal.body.run}}
        made = self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        self.journal.record(DeleteNamespace(name=self.namespace, uid=made["metadata"]["uid"]))

    def arm(self, *, can_ask: bool) -> Snapshot:
        """Snapshot into the cluster, anchor, OPEN -> ARMED. can_ask: whether the run will be able to ask the baseline.

        Raises Unjudged when what serves now could not come back.
        """
        self.snapshot = snapshot = take(self.cluster, self.located, self.namespace)
        stored = snapshot.stored()
        had = {ref: len(found.pods) for ref, found in snapshot.serving.items()}
        others = [one.model_copy(update={"had": had.get(str(one.ref), 0)}) for one in self.journal.body.others]
        self.lease.guard()
        keep(
            self.journal, stored, images=snapshot.images, templates=snapshot.templates,
            releases=names(self.cluster, self.namespace) if self.located.scenario.by_pipeline else (),
            not_applicable=applicable(stored, self.journal.body.workloads, snapshot.images, can_ask, self.journal.others),
            others=tuple(others),
        )  # fmt: skip
        self.emit(snapshot.event())
        self.anchor = anchor = self._make_anchor()
        self._deploy = self._over(snapshot.before, anchor)
        for serving in snapshot.serving.values():
            self.lease.guard()
            pullable.ask(self.cluster, anchor, serving)
        if (image := self.located.scenario.stand.image) is not None:
            self._watch(image)
        stored_as = "the way back is stored in the cluster" + (f", {self.way_back} holds it" if image else "")
        self._move(State.ARMED, f"the way back is {self.way_back}" if self.journal.theirs else stored_as)
        return snapshot

    def _over(self, before: Mapping[Ref, Object | None], anchor: Object) -> Deploy:
        objects = written(self.located, self.namespace)
        by_pipeline = self.located.scenario.by_pipeline
        return Deploy(self.cluster, objects, before, self.journal, anchor, self.lease.guard, by_pipeline)

    def rearm(self) -> None:
        """After a rehearsal or a drill: the way back still lies in the cluster, what a deploy belongs to is made again."""
        if self.located.scenario.stand.create:
            self.create_namespace()
        self.anchor = self._armed().anchor = self._make_anchor()

    def _make_anchor(self) -> Object:
        run = self.journal.body.run
        meta = {"name": anchor_name(run), "namespace": self.namespace, "labels": {RUN_LABEL: run}}
        self.lease.guard()
        return self.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})

    def _watch(self, image: str) -> None:
        """A watchdog in the cluster, proven alive; from then on the way back is its. Raises Unjudged when it is not."""
        body = self.journal.body
        until = self.cluster.server_time() + timedelta(seconds=settle_by_s(self.located.scenario))
        self.journal.write(watchdog=watchdog.job_name(body.run), image=image, settle_by=until.isoformat())
        self.lease.guard()
        try:
            job = self.cluster.create(watchdog_job(self.located, self.journal, image))
            pod = watchdog.prove_alive(self.journal, job)
        except (ApiError, Unjudged) as error:
            watchdog.remove(self.journal)
            self.journal.write(watchdog="", image="", settle_by="")
            said = str(error)
            raise Unjudged(
                said if isinstance(error, Unjudged) else f"the way back is not armed, nothing was changed: {said}",
                reason=Reason.SETUP, blame=Blame.PLATFORM,
            ) from None  # fmt: skip
        self.executor = ByWatchdog(body.run)
        self.emit(Armed(pod=pod))

    @property
    def armed(self) -> bool:
        """Whether a watchdog restores what this process cannot."""
        return isinstance(self.executor, ByWatchdog)

    @property
    def way_back(self) -> str:
        """Who would restore. A run whose watchdog cannot be proven alive changes nothing."""
        if theirs := self.journal.theirs:
            return f"the owner's ({theirs})"
        image = self.located.scenario.stand.image
        name = watchdog.job_name(self.journal.body.run)
        return f"watchdog {name}, image {image.rpartition('@')[2]}" if image else IN_PROCESS

    def hand_over(self, why: str) -> None:
        """One write: the watchdog restores from now on, whatever becomes of this process. Nothing for an unarmed run."""
        if self.armed and not self.journal.body.asked and not self.journal.final:
            ask(self.journal, "HANDED_OVER", why)

    # -- in pipeline mode -----------------------------------------------------------------------------------------

    def wait(self, why: str) -> None:
        """ARMED or TESTING -> WAITING, the Leases with the watchdog; the first time with what undoes the pipeline's deploy."""
        entries: tuple[Entry, ...] = ()
        more: dict[str, object] = {}
        if self.journal.state is State.ARMED:
            until = self.cluster.server_time() + timedelta(seconds=self.located.scenario.rollout.deploy_by)
            entries, more = tuple(self._armed().undo()), {"deploy_by": until.isoformat()}
        hand_over(self.journal, self.lease, why, entries, **more)
        self.emit(Changed(state=State.WAITING, by=self.journal.body.run, why=why))

    @classmethod
    def go_on(cls, journal: Journal, located: Located, emit: Callable[[Event], None], why: str, **more: object) -> "Rollout":
        """WAITING -> TESTING, in another process; emits nothing. more: changes of the journal in the same write.

        Raises Refused for a run that does not wait.
        """
        lease = take_back(journal, why, **more)
        try:
            rollout = cls(located, journal.body.namespace, journal, lease, emit)
            stored = fetch(journal)
            rollout.anchor = anchor = journal.cluster.get(anchor_ref(journal))
            before: dict[Ref, Object | None] = {Ref.of(obj): obj for obj in stored.objects} | dict.fromkeys(stored.absent)
            rollout._deploy, rollout.executor = rollout._over(before, anchor), ByWatchdog(journal.body.run)
        except BaseException:
            lease.leave()
            raise
        return rollout

    # -- the change -----------------------------------------------------------------------------------------------

    def apply(self) -> Deployed:
        """ARMED (or RESTORED, rearmed) -> APPLYING, the exact deploy, -> TESTING.

        Raises Breach when the server refuses an object.
        """
        self._move(State.APPLYING, "deploying the candidate")
        deployed = self._armed().apply()
        self.emit(deployed)
        self._move(State.TESTING, "the candidate is deployed")
        return deployed

    def differences(self) -> tuple[int, list[str]]:
        """How many objects were compared, and where what is live is not what was asked for."""
        return self._armed().differences()

    def add(self, obj: Object) -> Object:
        """An object of the run's own (a NodePort Service, a copied Secret): journaled, labelled, gone at the end."""
        return self._armed().add(obj)

    def fault_begins(self, fault: str, pod: str, uid: str) -> None:
        """Durable before the injection; the run cannot end well until `fault_ended`, or until that pod is gone."""
        self.lease.guard()
        self.journal.record(FaultBegun(fault=fault, pod=pod, uid=uid))

    def fault_ended(self, fault: str) -> None:
        """Its undo was witnessed."""
        self.journal.record(FaultEnded(fault=fault))

    def anchor_head(self, head: str) -> None:
        """Write the record's head hash into the journal, then say so in the record."""
        self.lease.guard()
        self.journal.anchor(head)
        self.emit(Anchored(head=head))

    # -- the way back before it is needed ---------------------------------------------------------------------------

    def rehearse(self, of: GoesOn, *, probe: Probe) -> Ending:
        """The whole way back, proven as an end is, by whoever would carry it out at the end; then `rearm` and `apply` go on.

        Raises what stops it; what it has left then is restored when the run settles.
        """
        settling = Settling(self.journal, self.lease.guard, self.emit, self.journal.body.run, self.executor, probe, of=of)
        return settling.rehearse()

    # -- the end --------------------------------------------------------------------------------------------------

    def settle(
        self, decision: Decision, why: str, head: str = "", *, probe: Probe | None = None, new_probe: Probe | None = None
    ) -> Ending:
        """Carry the decision out and prove it. probe asks what served before, new_probe the candidate; each returns one
        line of evidence and raises Breach. Never raises for what goes wrong: that is in the Ending. Safe to repeat."""
        if self.ending is not None and self.ending.safe:
            return self.ending
        asked = None if self._deploy is None else lambda: self._armed().differences()[1]
        images = {str(item.get("image", "")) for obj in self.located.objects for item in containers(dict(obj))}
        digests = (
            frozenset(image.rpartition("@")[2] for image in images) if all("@" in image for image in images) else frozenset()
        )
        settling = Settling(
            self.journal, self.lease.guard, self.emit, self.journal.body.run, self.executor, probe, new_probe, asked, digests
        )
        self.ending = settling.settle(decision, why, head)
        return self.ending

    def close(self, verdict: Verdict) -> None:
        """What the tombstone says; the Lease is free, and then the watchdog gone: it frees what a run dies over before that."""
        with shielded():
            try:
                self.lease.guard()
                self.journal.conclude(verdict)
            finally:
                self.lease.release()
            if self.armed and self.journal.final:  # else it goes on trying, or has taken over
                watchdog.remove(self.journal)

    def _move(self, to: State, why: str) -> None:
        self.lease.guard()
        self.journal.move(to, by=self.journal.body.run, why=why)
        self.emit(Changed(state=to, by=self.journal.body.run, why=why))

    def _armed(self) -> Deploy:
        if self._deploy is None:
            raise HarnessError("nothing is deployed before the way back is armed")
        return self._deploy


def watchdog_job(located: Located, journal: Journal, image: str) -> Object:
    """The watchdog's Job for this scenario."""
    scenario = located.scenario
    served = {ref_of(serves, journal.body.namespace) for serves in scenario.candidate.serves}
    pods = [pod_labels(obj, journal.others) for obj in written(located, journal.body.namespace) if Ref.of(obj) in served]
    away_from = [one for one in pods if one]
    return watchdog.manifest(journal, image, settle_by_s(scenario), pulls=scenario.pulls, away_from=away_from)


def watchdog_refused(cluster: Cluster, located: Located, namespace: str, run: str) -> list[str]:
    """What the API server has against the watchdog's Job, or else its pod, by dry run: quota, admission, no ServiceAccount."""
    home, image = home_of(located), located.scenario.stand.image
    if image is None:
        return []
    body = _body(located, namespace, run)
    meta = {"name": name_for(body.workloads[0], home, namespace), "namespace": home}
    job = watchdog_job(located, Journal(cluster, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}, body), image)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": job["metadata"], "spec": job["spec"]["template"]["spec"]}
    for obj in (job, pod):
        try:
            cluster.create(obj, dry_run=True)
        except (Forbidden, Invalid) as error:
            return [f"stand.image: the watchdog's {obj['kind']} is refused in {home}: {error.message}"]
    return []


def home_of(located: Located) -> str:
    """Where Lease, journal and watchdog lie: not in a namespace that goes with the run."""
    stand = located.scenario.stand
    return (stand.home or stand.secrets_from or "default") if stand.create else stand.namespace


def settle_by_s(scenario: Scenario) -> float:
    """Seconds from arming after which an unsettled run is restored: as declared, or twice all bounds after the pipeline's."""
    rollback = scenario.rollback
    within = most_s(scenario) + (scenario.scheduling.within if scenario.scheduling else 0) + rollback.within
    return rollback.settle_by or max(600.0, 2 * within) + scenario.by_pipeline * scenario.rollout.deploy_by


def occupied(cluster: Cluster, located: Located, namespace: str) -> Sequence[str]:
    """Objects of the manifests that are there already, claims aside: they outlive runs on purpose."""
    refs = [Ref.of(obj) for obj in written(located, namespace) if obj["kind"] != CLAIM]
    return [str(ref) for ref in refs if cluster.find(ref) is not None]


def _body(located: Located, namespace: str, run: str, owners: Sequence[Object] = ()) -> Body:
    scenario = located.scenario
    serves = scenario.candidate.serves
    return Body(
        run=run, namespace=namespace, mode=scenario.mode, keep=scenario.keep,
        workloads=tuple(one.key for one in serves), others=tuple(others_of(scenario, namespace).values()),
        services=tuple(dict.fromkeys(one.service for one in serves)),
        serves=tuple(Asked(service=one.service, port=one.port, runtime=one.runtime, model=one.model, api=one.api)
                     for one in serves),
        syncs=tuple(OnObject.of(Ref.of(one)) for one in owners), suspend="suspend-sync" in scenario.consent,
        lease_s=scenario.lock.lease, soak_s=scenario.rollback.soak, within_s=scenario.rollback.within,
    )  # fmt: skip

"""`hotfire sweep`: what runs that ended or died left behind, found by label, anchor and UID; never what a live run may need.

A run whose journal has not ended is none of it: its objects go on its way back (`abort`, `resume`). Claims are never deleted,
a namespace only if its journal says that this run made this very one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from hotfire.errors import Refused
from hotfire.journal.journal import SELECT, Journal, away, lying, next_step, parse
from hotfire.journal.lease import API, Lease, leases_of
from hotfire.journal.store import beside, lies_beside
from hotfire.kube.client import ApiError, Cluster, Forbidden, Object, Ref, UnknownKind
from hotfire.kube.deletion import delete_while
from hotfire.kube.pods import leaving, stamp
from hotfire.rollout.job import WATCHES, watches
from hotfire.rollout.probes import RUN_LABEL, labelled
from hotfire.rollout.restore import SWEPT, anchor_name, namespace_made
from hotfire.rollout.watchdog import lease_ref
from hotfire.words import State

Tell = Callable[[str], None]


def sweep_all(cluster: Cluster, older_s: float, *, tell: Tell) -> list[str]:
    """`sweep` in each namespace that has anything of hotfire's; where a journal cannot be read that is a line, too."""
    kinds = [(*kind, RUN_LABEL) for kind in SWEPT] + [("v1", "ConfigMap", SELECT), (API, "Lease", SELECT)]
    found = [obj for api_version, kind, labels in kinds for obj in _listed(cluster, api_version, kind, "", labels)]
    failed: list[str] = []
    for namespace in sorted({obj["metadata"]["namespace"] for obj in found}):
        try:
            failed += sweep(cluster, namespace, older_s, tell=tell)
        except Refused as refused:
            failed.append(f"{namespace}: {refused}")
    if not found:
        tell("every namespace: nothing to do")
    return failed


def sweep(cluster: Cluster, namespace: str, older_s: float, *, tell: Tell) -> list[str]:
    """Remove it in one namespace, and tell each thing; a line for each that could not be removed.

    older_s: seconds since it was made; what is younger stays. Raises Refused for a journal that cannot be read (Damaged where
    it is none): nobody knows then what may go.
    """
    journals = _journals(cluster, namespace)
    found = _Sweep(cluster, namespace, older_s, tell, cluster.server_time(), [one for one in journals if not one.ended])
    found.leases()
    found.labelled()
    found.watchdogs()
    for journal in journals:
        if journal.ended:
            found.of_tombstone(journal)
    for run, why in found.spared.items():
        tell(f"run {run} {why}: nothing of it is touched")
    if not found.swept and not found.failed:
        tell(f"{namespace}: nothing to do")
    return found.failed


def _journals(cluster: Cluster, namespace: str) -> list[Journal]:
    """Those that lie there, and of a namespace that a run made those elsewhere."""
    near = [Journal(cluster, live, parse(live)) for live in lying(cluster, namespace)]
    try:
        live = cluster.find(Ref("v1", "Namespace", "", namespace)) or {"metadata": {}}
    except Forbidden as error:
        if near:  # they lie where their runs went, but for a namespace that a run made
            return near
        raise Refused(f"namespace {namespace}: {error.message}: whether a run made it must be known before a sweep") from None
    made = (live["metadata"].get("labels") or {}).get(RUN_LABEL)
    found = [*near, *(away(cluster, namespace) if made else ())]
    if made and not found:
        raise Refused(f"namespace {namespace} was made by run {made}, whose journal is not there: nobody knows what may go")
    return found


@dataclass
class _Sweep:
    """One sweep. unended: journals of runs that nothing is taken from; busy: holders of Leases, not known to be dead."""

    cluster: Cluster
    namespace: str
    older_s: float
    tell: Tell
    now: datetime
    unended: list[Journal]
    busy: set[str] = field(default_factory=set)
    spared: dict[str, str] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def leases(self) -> None:
        """Of runs that died before their journal was there or after it had ended; and those of watchdogs of ended runs."""
        needed = {ref for one in self.unended for ref in (*leases_of(one), lease_ref(one.ref.namespace, one.ref.name))}
        for live in self._list(API, "Lease", SELECT):
            ref, spec = Ref.of(live), live["spec"]
            holder = str(spec.get("holderIdentity") or "")
            old = self._unrenewed(live)
            if ref in needed:
                continue
            if ref.name.startswith("watchdog-"):
                if old:
                    self._delete(live, "of a watchdog", self._unrenewed)
            elif holder:
                self.busy |= set() if old and self._freed(ref, holder, float(spec["leaseDurationSeconds"])) else {holder}

    def _unrenewed(self, lease: Object) -> bool:
        return self._age(lease["spec"].get("renewTime") or lease["metadata"]["creationTimestamp"]) >= self.older_s

    def _freed(self, ref: Ref, holder: str, length_s: float) -> bool:
        """Whether it was nobody's: read unchanged for 4T/3, like every takeover."""
        try:
            Lease.take_named(self.cluster, {ref: ref.name}, f"sweep-{holder}", length_s, wait_s=2 * length_s).release()
        except Refused:
            return False
        self._say(f"freed {ref} in {ref.namespace}, held by run {holder}, which died without a journal that has to be finished")
        return True

    def labelled(self) -> None:
        """What carries a run's label and belongs to its anchor; a label alone may have been copied by anybody."""
        found = [obj for api_version, kind in SWEPT for obj in self._list(api_version, kind, RUN_LABEL)]
        for obj in sorted(found, key=_is_anchor):  # anchors last: what belongs to them is said one by one
            run = obj["metadata"]["labels"][RUN_LABEL]
            if _belongs(obj, run) and self._over(run) and self._old(obj):
                self._delete(obj, f"of run {run}", partial(_belongs, run=run))

    def watchdogs(self) -> None:
        """Jobs that could never run, or whose run has ended without them."""
        for live in self._list("batch/v1", "Job", f"{SELECT},{WATCHES}"):
            run = live["metadata"]["labels"][WATCHES]
            if self._over(run) and self._old(live):
                self._delete(live, f"of run {run}", partial(watches, run=run))

    def of_tombstone(self, journal: Journal) -> None:
        """Snapshots that nobody needs any more, and a namespace that this run made."""
        for obj in beside(self.cluster, journal):
            if self._old(obj):
                self._delete(obj, f"of run {journal.body.run}", partial(lies_beside, journal))
        if journal.state is State.CONFIRMED and journal.body.keep:
            return
        live = namespace_made(journal)
        if live is not None and labelled(live, journal.body.run) and self._old(live):
            self._delete(live, f"made by run {journal.body.run}", partial(labelled, run=journal.body.run))

    def _over(self, run: str) -> bool:
        """Whether the run can need nothing any more."""
        unended = next((journal for journal in self.unended if journal.body.run == run), None)
        if unended is not None:
            self.spared[run] = f"has not ended, {next_step(unended.body)}"
        elif run in self.busy:
            self.spared[run] = "holds its Lease"
        return run not in self.spared

    def _list(self, api_version: str, kind: str, labels: str) -> list[Object]:
        try:
            return _listed(self.cluster, api_version, kind, self.namespace, labels)
        except Forbidden as error:
            self.failed.append(f"{kind} objects in {self.namespace} were not looked at: {error.message}")
            return []

    def _old(self, obj: Object) -> bool:
        return self._age(obj["metadata"]["creationTimestamp"]) >= self.older_s

    def _age(self, at: str) -> float:
        return (self.now - stamp(at)).total_seconds()

    def _delete(self, live: Object, whose: str, still: Callable[[Object], bool]) -> None:
        ref = Ref.of(live)
        name = f"{ref} in {ref.namespace}" if ref.namespace else str(ref)
        if held := leaving(live):
            self.failed.append(f"{name} {whose} is {held}")
            return
        try:
            deleted = delete_while(self.cluster, live, still)
        except ApiError as error:
            self.failed.append(f"{name} {whose} is still there: {error.message}")
            return
        if deleted:
            self._say(f"deleted {name} {whose}")

    def _say(self, line: str) -> None:
        self.swept.append(line)
        self.tell(line)


def _listed(cluster: Cluster, api_version: str, kind: str, namespace: str, labels: str) -> list[Object]:
    """None of a kind that the server does not know."""
    try:
        return cluster.list(api_version, kind, namespace, labels)
    except UnknownKind:
        return []


def _belongs(obj: Object, run: str) -> bool:
    """Whether it is the run's anchor, or the run's and that anchor's."""
    return labelled(obj, run) and (_is_anchor(obj) or _anchored(obj, run))


def _is_anchor(obj: Object) -> bool:
    meta = obj["metadata"]
    return bool(obj["kind"] == "ConfigMap" and meta["name"] == anchor_name(meta["labels"][RUN_LABEL]))


def _anchored(obj: Object, run: str) -> bool:
    owners = obj["metadata"].get("ownerReferences") or ()
    return any((one["kind"], one["name"]) == ("ConfigMap", anchor_name(run)) for one in owners)

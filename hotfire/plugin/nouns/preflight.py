"""preflight: what can be known before anything is touched."""

from hotfire.check import Findings, saw
from hotfire.errors import Unjudged
from hotfire.kube.client import Cluster, Object, Ref
from hotfire.rollout.feasible import Room, contested, gather, held, restless, sealed, way_back, way_there
from hotfire.rollout.job import pod_on_paper
from hotfire.rollout.load_job import on_paper
from hotfire.rollout.metrics import Meter
from hotfire.rollout.owner import owner_of
from hotfire.rollout.population import others_of, ref_of
from hotfire.rollout.rights import Right, missing, rights
from hotfire.rollout.rollout import home_of
from hotfire.rollout.sync import syncing, unsuspendable
from hotfire.scenario.model import Load, Located
from hotfire.scenario.serves import Serves
from hotfire.scenario.size import first_look, span, warm_up
from hotfire.words import Blame, Reason

COUNTED_S = 10.0  # how long the baseline's requests are counted


class Preflight:
    """The noun of suite 10."""

    def __init__(self, cluster: Cluster, located: Located, namespace: str) -> None:
        self.cluster, self.located, self.namespace = cluster, located, namespace

    def missing_rights(self) -> Findings:
        """Rights that the API server denies to this identity."""
        wanted = [*rights(self.located), *self._of_other_kinds()]
        denied = missing(self.cluster, self.namespace, wanted)
        saw("right", len(wanted), [str(right) for right in wanted if right not in denied])
        return Findings([f"{right} in {self.namespace} ({right.why})" for right in denied], blame=Blame.PLATFORM)

    def _of_other_kinds(self) -> list[Right]:
        found = [(self.cluster.resource(ref.api_version, ref.kind)[0], ref.api_version.partition("/")[0])
                 for ref in others_of(self.located.scenario, self.namespace)]  # fmt: skip
        verbs = ("get", "create", "update", "delete")
        return [Right(verb, plural, group, why="candidate.serves") for plural, group in found for verb in verbs]

    def _workloads(self) -> list[Object | None]:
        refs = [ref_of(serves, self.namespace) for serves in self.located.scenario.candidate.serves]
        live = [self.cluster.find(ref) for ref in refs]
        saw("workload", len(refs), {str(ref): "there" if obj else "absent" for ref, obj in zip(refs, live, strict=True)})
        return live

    def other_owners(self) -> Findings:
        """Workloads that Helm, Argo CD or Flux deploys: unless it is the run's pipeline, it would re-apply its own.

        Of a pipeline that applies by itself: what keeps hotfire from knowing it, or from suspending it where that is consented.
        """
        workloads = self._workloads()
        if self.located.scenario.by_pipeline:
            return Findings(self._unmanageable(), blame=Blame.PLATFORM)
        owners = [(obj, owner_of(obj)) for obj in workloads if obj is not None]
        return Findings(
            [
                f"{Ref.of(obj)} is deployed by {owner}: let its pipeline deploy, `rollout: {{by: pipeline}}`"
                for obj, owner in owners
                if owner
            ],
            blame=Blame.PLATFORM,
        )

    def _unmanageable(self) -> list[str]:
        scenario = self.located.scenario
        owners, lines = syncing(self.cluster, self.located, self.namespace)
        for owner in owners if "suspend-sync" in scenario.consent else ():
            lines += unsuspendable(self.cluster, owner, scenario.rollout.owner_in)
        return lines

    def _room(self) -> Room:
        self._workloads()
        scenario = self.located.scenario
        own = [pod_on_paper(home_of(self.located))] if scenario.stand.image else []
        own += on_paper(scenario.load, self.namespace) if scenario.load is not None else []
        room = gather(self.cluster, self.located, self.namespace, own)
        saw("room", 1, f"counted: pods of {'all namespaces' if room.whole else 'this one, for others may not be listed'}")
        return room

    def lacking_for_the_way_there(self) -> Findings:
        """What nodes and quotas lack for the candidate; the sums are in the lines."""
        room = self._room()
        return _lacking(room, way_there(room))

    def lacking_for_the_way_back(self) -> Findings:
        """What would keep the last known good from returning: the candidate's own manifests, or what is there now."""
        room = self._room()
        if theirs := sealed(self.cluster, self.located, self.namespace):
            return Findings(theirs, blame=Blame.CANDIDATE)
        where = (self.cluster, self.located, self.namespace)
        return _lacking(room, [*way_back(room), *restless(*where), *held(*where)])

    def over_the_live_cap(self) -> Findings:
        """Where users are served, a load that would be more than its share of what they ask; how long a smaller one takes."""
        scenario = self.located.scenario
        there = dict(zip(scenario.candidate.serves, self._workloads(), strict=True))
        if scenario.load is None:
            return Findings()
        over = [self._over(scenario.load, serves) for serves in scenario.loaded if there[serves] is not None]
        return next((found for found in over if found), Findings())  # nobody is served by what is not there

    def _over(self, load: Load, serves: Serves) -> Findings:
        scenario, meter = self.located.scenario, Meter(self.cluster, self.namespace, serves)
        rates = meter.rates(COUNTED_S)
        saw("counting-pod", len(rates), rates)
        if silent := [name for name, rate in rates.items() if rate is None]:
            unknown = f"{', '.join(silent)}: {meter.who} told no count of requests to {serves.workload}"
            raise Unjudged(f"{unknown}; say load.live_cap as a rate such as 2/s", reason=Reason.NO_DATA, blame=Blame.PLATFORM)
        served = sum(rate for rate in rates.values() if rate is not None)
        most, peak = load.live_cap.value * served, load.arrivals.peak
        if peak <= most:
            return Findings()
        n = warm_up(scenario) + first_look(scenario)
        fits = "say live_cap as a rate such as 2/s"
        if most > 0:
            fits = f"at {most:.3g}/s its {n:,} requests to the first look take {span(n / most)}"
        seen = f"{load.arrivals.text} is more than {load.live_cap.text} of the {served:.3g}/s that {serves.workload} serves"
        return Findings([f"{seen}; {fits}"], blame=Blame.PLATFORM, observed=peak, expected=f"<= {most:.3g}/s")


def _lacking(room: Room, lines: list[str]) -> Findings:
    """What lacks for certain. Raises Unjudged where nothing seems to, but not all was counted: a workload of several pod
    templates, devices that pods which were not seen may hold."""
    if not lines and room.unplayed:
        unknown = (
            f"{', '.join(room.unplayed)}: how many of its pods are of which template is not known, nor what room they take"
        )
        raise Unjudged(unknown, reason=Reason.NO_DATA, blame=Blame.HARNESS)
    if not lines and (devices := contested(room)):
        unseen = f"how many {', '.join(devices)} are free is not known: pods of other namespaces may not be listed"
        raise Unjudged(f"{unseen}; `hotfire rbac` grants it", reason=Reason.NO_DATA, blame=Blame.PLATFORM)
    return Findings(lines, blame=Blame.PLATFORM)

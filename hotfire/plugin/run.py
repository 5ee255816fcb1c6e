"""One run from `open` to `closed`: what the session and the nouns hold on to. It carries out, it judges nothing itself."""

import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from hotfire import __version__
from hotfire.check import plan
from hotfire.errors import BadInput, Breach, HarnessError, Refused
from hotfire.gates.certified import objections
from hotfire.gates.decision import Ending, decide, verdict
from hotfire.kube.bundle import collect
from hotfire.kube.client import ApiError, Cluster, Object
from hotfire.kube.wait import interrupted, shielded
from hotfire.own_checks import checks_of
from hotfire.plugin.secrets import copied, learn, secret_values, secrets_in
from hotfire.plugin.users import UsersWatch
from hotfire.record.events import (
    Closed,
    Concluded,
    Decided,
    Entry,
    Event,
    GoesOn,
    Judged,
    Opened,
    Planned,
    Signalled,
    Stage,
    Told,
)
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.report import live, reported
from hotfire.report.story import RECORD, Story
from hotfire.report.verdict import unlike
from hotfire.rollout import reach
from hotfire.rollout.ask import through_api_server
from hotfire.rollout.prerequisites import unmet
from hotfire.rollout.rights import missing, rights
from hotfire.rollout.rollout import Rollout, home_of, watchdog_refused
from hotfire.rollout.settle import Ending as Settlement
from hotfire.rollout.snapshot import take
from hotfire.runtimes.client import RuntimeClient
from hotfire.scenario.digest import candidate_digest
from hotfire.scenario.images import DIGEST, with_images
from hotfire.scenario.lint import lint
from hotfire.scenario.loader import load
from hotfire.scenario.model import Located
from hotfire.scenario.serves import Serves
from hotfire.scenario.units import duration_of
from hotfire.stand.kubeconfig import UserStand, resolve
from hotfire.words import Decision, Gate, Mode, Outcome, Verdict

Tell = Callable[[str], None]
ALLURE = "allure-results"
NOT_SOUND = (Outcome.FAIL, Outcome.INVALID)
NAME = 40  # characters of the scenario's name in a run id, which must be a label's value


def located(path: Path, namespace: str | None, images: list[str], watchdog: str | None = None) -> Located:
    """The scenario, whole and fit for a run; needs no cluster. Raises BadInput with every line that is wrong.

    watchdog: hotfire's own image, instead of the scenario's stand.image.
    """
    if wrong := [pair for pair in images if "=" not in pair]:
        raise BadInput(*(f"--image {pair}: NAME=REF is expected" for pair in wrong))
    found = load(path, namespace)
    if watchdog is not None:
        found = with_watchdog(found, watchdog)
    if lines := lint(found):
        raise BadInput(*lines)
    checks_of(found)
    return with_images(found, dict(pair.split("=", 1) for pair in images))


def with_watchdog(located: Located, image: str) -> Located:
    """The same scenario with hotfire's own image. Raises BadInput for one without a digest."""
    if not DIGEST.fullmatch(image):
        raise BadInput(f"--watchdog-image {image}: no digest, REGISTRY/NAME@sha256:… is expected")
    stand = located.scenario.stand.model_copy(update={"image": image})
    return located.model_copy(update={"scenario": located.scenario.model_copy(update={"stand": stand})})


def unarmed(located: Located) -> list[str]:
    """Where users are served, nothing is changed before the way back is armed in the cluster; by a pipeline nowhere."""
    scenario = located.scenario
    if scenario.by_pipeline and not scenario.stand.image:
        said = "`rollout: {by: pipeline}` needs the watchdog, which holds the Lease meanwhile: `image:` or --watchdog-image REF"
        return [f"{located.where('stand')}: {said}"]
    if scenario.mode is not Mode.PROMOTE or scenario.users == "none" or scenario.stand.image:
        return []
    return [
        f"{located.where('stand')}: promote where users are served needs the watchdog: `image:` with hotfire's own image by "
        "digest, or --watchdog-image REF (`hotfire image push` gives it)"
    ]


class Run:
    """folder: where everything of it is written; planned: every check, asked or not."""

    def __init__(self, located: Located, cluster: Cluster, redactor: Redactor, name: str, folder: Path, tell: Tell) -> None:
        self.located, self.scenario, self.cluster, self.redactor = located, located.scenario, cluster, redactor
        self.namespace, self.name, self.folder, self._tell = located.scenario.stand.namespace, name, folder, tell
        self.checks = checks_of(located)
        self.planned = plan(self.checks, self.scenario)
        self.ending: Settlement | None = None
        self.settling_s = 0.0
        self.applied = time.monotonic()  # when the candidate was deployed
        self.signal = self.halted = ""  # what stopped it: a signal's name; what a guard found
        self.halted_in = ""  # the suite that answers for what the guard found
        self.users = UsersWatch(self)
        self._reach: dict[Serves, str] = {}
        self._recorder: Recorder | None = None
        self._rollout: Rollout | None = None

    # -- open -----------------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls, located: Located, *, kubeconfig: str | None, context: str | None, reports: Path, wait: str, tell: Tell
    ) -> Self:
        """Reach, rights, namespace, Secrets, certificate, lock; then the record. Nothing is changed in the cluster but
        the Lease and the journal. Raises BadInput and Refused, and leaves nothing behind then."""
        scenario = located.scenario
        stand = scenario.stand
        digest = candidate_digest(located)
        certified(located, digest)
        if lines := unarmed(located):
            raise BadInput(*lines)
        wait_s = duration_of("--wait", wait)
        user, redactor = reached(located, kubeconfig, context)
        name = f"{scenario.name[:NAME].rstrip('-')}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if lines := watchdog_refused(user.cluster, located, stand.namespace, name):
            raise BadInput(*(f"{located.where('stand')}: {line}" for line in lines))
        folder = _folder(reports, name)
        run = cls(located, user.cluster, redactor, name, folder, tell)
        try:
            run._rollout = Rollout.open(
                user.cluster, located, stand.namespace, name, emit=run.emit, wait_s=wait_s, home=home_of(located), tell=tell
            )
        except BaseException:
            folder.rmdir()
            raise
        run._begin(user, digest)
        return run

    def go_on(self, entries: Sequence[Entry], rollout: Rollout) -> None:
        """With the record that another process of this run began."""
        self._rollout = rollout
        self._record(entries)

    def _record(self, after: Sequence[Entry] = ()) -> None:
        self._recorder = Recorder(self.folder / "record.jsonl", self.redactor, after=after)
        self._recorder.listen(lambda entry: [self._tell(line) for line in live.lines(entry.event)])

    def _begin(self, user: UserStand, digest: str) -> None:
        scenario, cluster = self.scenario, user.cluster
        baseline = "absent" if user.found is None and scenario.stand.create else take(cluster, self.located, self.namespace)
        self._record()
        self.emit(
            Opened(
                run=self.name, scenario=scenario.name, about=scenario.about, mode=scenario.mode,
                scenario_digest=self.located.digest, candidate_digest=digest,
                baseline=baseline if isinstance(baseline, str) else baseline.baseline,
                accelerators=scenario.stand.accelerators,
                stand=f"Kubernetes {cluster.version}, context {cluster.context}, namespace {self.namespace}",
                namespace=self.namespace,
                way_back=self.rollout.way_back, owner=self.rollout.journal.theirs,
                users=scenario.users, certified=scenario.certified, since=cluster.server_time().isoformat(),
                version=__version__,
            )
        )  # fmt: skip
        self.emit(Planned(checks=self.planned))

    @property
    def opened(self) -> Opened:
        first = self.recorder.entries[0].event
        if not isinstance(first, Opened):
            raise HarnessError("the record does not begin with what was opened")
        return first

    @property
    def rollout(self) -> Rollout:
        if self._rollout is None:
            raise HarnessError("the run holds no lock")
        return self._rollout

    @property
    def recorder(self) -> Recorder:
        if self._recorder is None:
            raise HarnessError("the run has no record yet")
        return self._recorder

    @property
    def anchor(self) -> Object:
        """What the run's own objects belong to."""
        if self.rollout.anchor is None:
            raise HarnessError("nothing is made before the way back is stored")
        return self.rollout.anchor

    # -- while it goes --------------------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Into the record."""
        self.recorder.emit(event)

    def tell(self, line: str) -> None:
        """A line for people that the record does not need (progress)."""
        self._tell(self.redactor.text(line))

    def check_lease(self) -> None:
        """Raises LeaseLost once the workload is another's."""
        self.rollout.lease.guard()

    def stage(self, suite: str, phase: str, *, anchor: bool = True) -> None:
        """A suite begins or ends; at its end the record's head goes into the journal."""
        self.emit(Stage.model_validate({"suite": suite, "phase": phase}))
        if phase == "ended" and anchor:
            self.anchor_head()

    def anchor_head(self) -> None:
        """Through a journal that cannot be written now: then the verdict says that the record is not anchored."""
        if self.halted and not self.rollout.journal.final:
            return  # the watchdog writes it now, the end's anchor covers all
        try:
            with shielded():
                self.rollout.anchor_head(self.recorder.head)
        except HarnessError as error:
            self.emit(Told(line=f"the record could not be anchored: {error}"))

    def arm(self) -> None:
        """Store the way back in the cluster."""
        if self.scenario.stand.create:
            self.rollout.create_namespace()
        self.rollout.arm(can_ask=self._baseline_answers())

    def way_in(self) -> None:
        """What the run adds beside the candidate's objects: copied Secrets, its own way to each API."""
        for secret in copied(self.cluster, self.located):
            self.rollout.add(secret)
        for serves in self.scenario.candidate.serves:
            if self.scenario.reach.via == "nodeport":
                extra = reach.extra_service(self.cluster, self.located, self.namespace, self.name, serves)
                scheme = "https" if self.scenario.reach.tls else "http"
                self._reach[serves] = reach.node_url(self.cluster, self.rollout.add(extra), scheme)

    def _baseline_answers(self) -> bool:
        """What does not answer before the change cannot be asked to answer after it."""
        try:
            through_api_server(self.rollout.journal)()
        except (Breach, ApiError):
            return False
        return True

    def deploy(self) -> None:
        """The candidate, over what the run is armed for. Raises Breach when the server refuses an object."""
        self.applied = time.monotonic()
        self.rollout.apply()

    def rehearse(self, of: GoesOn) -> Settlement:
        """Go the way back and prove it, with the candidate still to be judged; what failed until then is kept first."""
        if any(isinstance(one.event, Judged) and one.event.outcome in NOT_SOUND for one in self.recorder.entries):
            self._keep(f"bundle-{of}")
        return self.rollout.rehearse(of, probe=self.ask)

    def again(self) -> None:
        """After a way back that was proven: what the run adds, and the candidate, once more."""
        self.rollout.rearm()
        self._reach.clear()
        self.way_in()
        self.deploy()

    def url(self, serves: Serves) -> str:
        """Where requests for this API go: scheme, host and port."""
        asked = self.scenario.reach
        if asked.url:
            return asked.url.rstrip("/")
        if serves not in self._reach and asked.via != "nodeport":
            by_name = reach.ingress_url if asked.via == "ingress" else reach.in_cluster_url
            self._reach[serves] = by_name(self.cluster, self.located, self.namespace, serves)
        if serves not in self._reach:
            raise HarnessError(f"there is no way to {serves.service} before the deploy")
        return self._reach[serves]

    def url_in_cluster(self, serves: Serves) -> str:
        """Where requests go that start in a pod: what others reach by a node's port, a pod reaches by the Service's name."""
        if self.scenario.reach.via != "nodeport":
            return self.url(serves)
        return reach.in_cluster_url(self.cluster, self.located, self.namespace, serves)

    def token(self) -> str | None:
        """The key that requests carry."""
        auth = self.scenario.reach.auth
        if auth is None:
            return None
        name, _, key = auth.secret.partition("/")
        return secret_values(self.cluster, secrets_in(self.located), name).get(key)

    def client(self, serves: Serves) -> RuntimeClient:
        """Asks one API as its users do."""
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else True
        client = RuntimeClient(
            self.url(serves), serves.runtime, serves.model, api=serves.api, timeout=self.scenario.behaviour.timeout,
            token=self.token(), verify=verify,
        )  # fmt: skip
        self.users.clients.append((serves.workload, client))
        return client

    @property
    def ca(self) -> str:
        """A file of certificates that endpoints are held against; empty for the system's."""
        return str(self.located.folder / self.scenario.reach.ca) if self.scenario.reach.ca else ""

    # -- the end --------------------------------------------------------------------------------------------------

    def settle(self) -> Settlement:
        """Decide from the record so far, carry it out, prove it. Once; what it came to is kept."""
        if self.ending is None:
            with shielded():
                self.ending = self._settle()
        return self.ending

    def _settle(self) -> Settlement:
        if interrupted():
            self.hand_over(self.signal or "signal")
            self.emit(Signalled(signal=self.signal or "signal"))
        self.users.end()
        self.anchor_head()
        decision, because = decide(self.recorder.entries)
        if decision is Decision.ROLL_BACK and self.rollout.anchor is not None:
            self._keep("bundle")
        self.emit(Decided(decision=decision, because=because))
        began = time.monotonic()
        ending = self.rollout.settle(decision, because[0], self.recorder.head, probe=self.ask, new_probe=self.ask)
        self.settling_s = time.monotonic() - began
        return ending

    def _keep(self, name: str) -> None:
        """What people will want to see of pods that are about to go."""
        bundle = collect(self.cluster, self.namespace, self.folder / name, self.redactor.text)
        self.emit(Told(line=f"kept {bundle}"))

    def hand_over(self, why: str) -> None:
        """First of all: a pipeline that stops a run gives it seconds, users wait, and a way back may take minutes."""
        try:
            self.rollout.hand_over(why)
        except (HarnessError, Refused) as error:  # its Lease will say it, at the latest
            self.emit(Told(line=f"could not hand over: {error}"))

    def ask(self) -> str:
        """One answer of each API, also while the run's own way in is not there. Raises Breach with the first that fails."""
        if self.scenario.reach.via == "nodeport":
            self.users.asked.update(serves.workload for serves in self.scenario.candidate.serves)
            return through_api_server(self.rollout.journal)()
        said = []
        for serves in self.scenario.candidate.serves:
            client = self.client(serves)
            if serves.api == "embeddings":
                client.embed(["Say hello."])
                said.append(f"{serves.service} embeds")
                continue
            answer = client.complete("Say hello.", max_tokens=4)
            if not answer.ok:
                raise Breach(f"{serves.service} does not answer: {answer.error}")
            said.append(f"{serves.service} answers {answer.text[:40]!r}")
        return "; ".join(said)

    def finish(self) -> Verdict:
        """Settle if no test did, conclude, close the record, free the lock, write the reports."""
        with shielded():
            self.settle()
            self.anchor_head()
            entries = self.recorder.entries
            reached, because = verdict(entries, Ending.of(entries, closing=True))
            self.emit(Concluded(verdict=reached, because=because))
            try:
                self.rollout.close(reached)
            except HarnessError as error:
                self.emit(Told(line=f"the tombstone could not be written: {error}"))
            self.emit(Closed())
            reached = reported(self.folder, self.redactor, reached, self.tell, self.rollout.journal.conclude)
        self.tell(f"{reached} (exit {reached.exit_code}): {self.folder / 'certificate.html'}")
        return reached


# -- what `open` looks at ---------------------------------------------------------------------------------------------


def reached(located: Located, kubeconfig: str | None, context: str | None) -> tuple[UserStand, Redactor]:
    """The cluster, in reach and with every right, and the Secrets of the scenario. Raises BadInput."""
    stand, redactor = located.scenario.stand, Redactor()
    user = resolve(kubeconfig or _beside(located, stand.kubeconfig), context or stand.context, stand.namespace,
                   create=stand.create)  # fmt: skip
    _permitted(user, located)
    if lines := unmet(user.cluster, located):
        raise BadInput(*lines)
    reach.check(user.cluster, located, stand.namespace)
    learn(user.cluster, located, redactor)
    return user, redactor


def certified(located: Located, digest: str) -> None:
    """Raises BadInput when a promote relies on a certificate that does not hold for it."""
    scenario = located.scenario
    if scenario.mode is not Mode.PROMOTE or scenario.certified == "none":
        return
    path = located.folder / scenario.certified
    objectives = [
        {
            "id": slo.id,
            "metric": slo.metric,
            "statistic": slo.statistic,
            "limit": slo.limit.value,
            "within": {metric: limit.value for metric, limit in slo.within.items()},
            "confidence": slo.confidence,
        }
        for slo in scenario.slos
        if slo.gate is Gate.REQUIRED
    ]
    certificate = json.loads(path.read_text(encoding="utf-8"))
    against = objections(
        certificate, candidate_digest=digest, accelerators=scenario.stand.accelerators,
        objectives=objectives, within_s=scenario.certified_within, age_s=_age(certificate),
    )  # fmt: skip
    if (path.parent / RECORD).is_file() and (other := unlike(certificate, Story.read(path.parent))):
        against.append(f"not what the record beside it says of {', '.join(other)}: `hotfire judge {path.parent}` tells more")
    if against:
        raise BadInput(*(f"{located.where('certified')}: {path}: {line}" for line in against))


def _age(certificate: Mapping[str, Any]) -> float | None:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(certificate.get("ended")))).total_seconds()
    except (ValueError, TypeError):
        return None


def _permitted(user: UserStand, located: Located) -> None:
    denied = missing(user.cluster, user.namespace, rights(located))
    if denied:
        where = f"namespace {user.namespace} (context {user.cluster.context})"
        raise BadInput(*(f"{where}: not allowed to {right} ({right.why}): give the run's identity this right"
                         for right in denied))  # fmt: skip


def _folder(reports: Path, name: str) -> Path:
    folder = reports / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"--reports {reports}: {error.strerror}, a folder that can be written is expected") from None
    return folder


def _beside(located: Located, kubeconfig: str | None) -> str | None:
    """A path in a scenario is relative to its file."""
    return None if kubeconfig is None else str(located.folder / Path(kubeconfig).expanduser())

"""Pipeline mode: one run in three processes. `arm` asks suite 10 and leaves the run to its watchdog, a pipeline deploys,
`verify` goes on with record and Lease and asks all the rest, `settle` decides. What they hand on lies in the run's folder."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from hotfire.errors import BadInput, HotfireError, Refused
from hotfire.gates.decision import decide
from hotfire.journal.entries import Strict
from hotfire.journal.journal import next_step
from hotfire.kube.client import Cluster
from hotfire.plugin.close import answer, journal_of, opened, record_of
from hotfire.plugin.close import settle as close
from hotfire.plugin.run import Run, Tell, located, reached
from hotfire.record.events import Changed, Entry, Told
from hotfire.report.story import RECORD
from hotfire.rollout.rollout import Rollout
from hotfire.rollout.takeover import abort
from hotfire.scenario.digest import candidate_digest
from hotfire.scenario.model import Located
from hotfire.words import Decision, State, Verdict

ARMED = "armed.json"  # what `arm` was given, in the run's folder
FIRST, LAST = "test_20", "test_90"  # the suites that `verify` asks lie between


class Phase(StrEnum):
    """How much of a run this process is."""

    WHOLE = "whole"
    ARM = "arm"
    VERIFY = "verify"

    def asks(self, suite: str) -> bool:
        """Whether it asks this suite's checks."""
        early = suite < FIRST
        return self is Phase.WHOLE or (early if self is Phase.ARM else not early and not suite.startswith(LAST))

    def fits(self, scenario: Located) -> list[str]:
        """Why this scenario does not go that way."""
        by_pipeline = scenario.scenario.by_pipeline
        if by_pipeline == (self is not Phase.WHOLE):
            return []
        if by_pipeline:
            return [f"{scenario.where('rollout')}: a pipeline deploys it: `hotfire arm`, `verify` and `settle` are expected"]
        return [f"{scenario.path}: hotfire deploys it itself: `hotfire run`, or `rollout: {{by: pipeline}}` for `hotfire arm`"]


class Given(Strict):
    """What the scenario was found by."""

    scenario: str
    namespace: str | None = None
    images: tuple[str, ...] = ()
    watchdog: str | None = None

    @classmethod
    def of(cls, folder: Path) -> "Given":
        """Raises BadInput for a folder of no run that waits for a pipeline."""
        try:
            return cls.model_validate_json((folder / ARMED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise BadInput(f"{folder}: no {ARMED} in it, the folder that `hotfire arm` named is expected") from None

    def found(self) -> Located:
        """The scenario. Raises BadInput for what became of it meanwhile."""
        return located(Path(self.scenario), self.namespace, list(self.images), self.watchdog)


def wait(run: Run, phase: Phase, given: Given) -> bool:
    """Arm and leave the run to its watchdog, or only leave it; False: that did not go, and the run has to settle."""
    try:
        if phase is Phase.ARM:
            (run.folder / ARMED).write_text(given.model_dump_json(), encoding="utf-8")
            run.arm()
            run.anchor_head()
        run.rollout.wait("for its pipeline to deploy" if phase is Phase.ARM else "verified, `hotfire settle` decides")
    except (HotfireError, OSError) as error:
        run.emit(Told(line=f"{error}"))
        return False
    run.tell(f"run {run.name} waits: {next_step(run.rollout.journal.body)}")
    return True


def passes(run: Run) -> bool:
    """Whether what was asked so far speaks for the candidate."""
    return decide(run.recorder.entries)[0] is Decision.CONFIRM


def go_on(given: Located, folder: Path, kubeconfig: str | None, context: str | None, *, settles: bool, tell: Tell) -> Run:
    """Take up a run that waits: record, journal and Lease. settles: it need not have been verified.

    Raises BadInput for a record or a scenario that is not the run's any more, Refused for a run that does not wait.
    """
    entries = _record(folder, given)
    user, redactor = reached(given, kubeconfig, context)
    journal = journal_of(lambda: user.cluster, folder, given.scenario.stand.namespace)
    body = journal.body
    if journal.ended:
        raise Refused(f"run {body.run} has ended {journal.state}, {body.last_verdict} ({body.why}): there is nothing to verify")
    if not settles and journal.state is State.WAITING and not body.deploy_by:
        raise Refused(f"run {body.run} was verified: {next_step(body)}")
    if not {*body.anchors} <= {one.hash for one in entries}:
        raise BadInput(f"{folder / RECORD}: it does not hold what the journal anchored: it is not this run's, or was changed")
    run = Run(given, user.cluster, redactor, folder.name, folder, tell)
    word, more = ("settle", {}) if settles else ("verify", {"deploy_by": ""})
    rollout = Rollout.go_on(journal, given, run.emit, f"`hotfire {word}` goes on with it", **more)
    try:
        run.go_on(entries, rollout)
        run.emit(Changed(state=State.TESTING, by=journal.body.by, why=journal.body.why))
    except BaseException:
        rollout.lease.leave()
        raise
    return run


def _record(folder: Path, given: Located) -> list[Entry]:
    entries, lost = record_of(folder)
    if lost:
        raise BadInput(f"{folder}: the record cannot be gone on with: {lost}")
    first = opened(entries)
    if (first.scenario_digest, first.candidate_digest) != (given.digest, candidate_digest(given)):
        raise BadInput(f"{given.path}: scenario or manifests were changed since {first.run} was armed with them")
    return entries


def settle(
    connect: Callable[[], Cluster], folder: Path, namespace: str | None, kubeconfig: str | None, context: str | None, *,
    gone: bool, tell: Tell,
) -> Verdict:  # fmt: skip
    """For every run: decide one that waits, bring to its end one that died, close one that confirmed. Safe to repeat.

    Raises as `close.settle`, `takeover.abort` and `go_on` do.
    """
    if gone or not (folder / ARMED).is_file():
        return close(connect, folder, namespace, gone=gone, tell=tell)
    given = Given.of(folder).found()
    journal = journal_of(connect, folder, namespace or given.scenario.stand.namespace)
    if journal.final:
        return close(connect, folder, namespace, tell=tell)
    if journal.state is not State.WAITING:
        ending = abort(journal.cluster, journal.body.namespace, journal.body.workloads[0], tell=tell)
        return ending.verdict if ending else close(connect, folder, namespace, tell=tell)
    run = go_on(given, folder, kubeconfig, context, settles=True, tell=tell)
    run.users.go_on(run.recorder.entries)
    ending = run.settle()
    rollback = given.scenario.rollback
    answer(run.recorder, ending, ending.took_s(run.settling_s, rollback.soak), rollback.within)
    return run.finish()

"""Decision and verdict: GO needs everything, and no evidence that is missing or taken away ever leads there."""

import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hotfire.gates.decision import Ending, decide, outcomes, verdict
from hotfire.record.events import (
    Anchored,
    Changed,
    Closed,
    Decided,
    Entry,
    Event,
    Faulted,
    Judged,
    Opened,
    Planned,
    PlannedCheck,
    Proved,
    Seen,
    Signalled,
    Suspended,
)
from hotfire.record.reader import read_as_far
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.words import Blame, Decision, Effect, Mode, Outcome, Proof, Reason, State, Verdict

PASS, FAIL, INVALID, NOT_RUN = Outcome.PASS, Outcome.FAIL, Outcome.INVALID, Outcome.NOT_RUN
GO, NO_GO, INCONCLUSIVE, UNSAFE = Verdict


def opened(mode: Mode = Mode.PROMOTE) -> Opened:
    words = {"about": "a", "baseline": "absent", "accelerators": "simulated", "stand": "s", "way_back": "w", "users": "none"}
    return Opened(run="r", scenario="s", mode=mode, scenario_digest="d", candidate_digest="c", version="0", **words)


def check(key: str, **more: object) -> PlannedCheck:
    id, _, param = key.rstrip("]").partition("[")
    return PlannedCheck.model_validate({"id": id, "param": param, "suite": "s", "question": "q", **more})


def judged(key: str, outcome: Outcome, blame: Blame | None = None, reason: Reason | None = None) -> Judged:
    return Judged(check=key, outcome=outcome, blame=blame, reason=reason)


def entries(events: Iterable[Event]) -> list[Entry]:
    """As a Recorder writes them; Anchored("") means: the head as it is now."""
    folder = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp")
    path = folder / f"hotfire-test-{datetime.now(UTC).timestamp()}.jsonl"
    recorder = Recorder(path, Redactor())
    try:
        for event in events:
            recorder.emit(Anchored(head=recorder.head) if event == Anchored(head="") else event)
    finally:
        recorder.abandon()
        path.unlink()
    return recorder.entries


ANCHOR = Anchored(head="")
PLAN = Planned(
    checks=(check("a.a", evidence="1 pod"), check("load.slo[x]"), check("settle.restored"), check("t.t", gate="advisory"))
)
SEEN = Seen(check="a.a", noun="pod", count=1)


def events(
    a: Sequence[Event] = (SEEN, judged("a.a", PASS)),
    slo: Sequence[Event] = (judged("load.slo[x]", PASS),),
    *,
    state: State = State.CONFIRMED,
    plan: Planned = PLAN,
    proof: Sequence[Proof] = (Proof.PROVEN, Proof.NOT_APPLICABLE),
    settled: Outcome | None = PASS,
    end: Sequence[Event] = (Closed(),),
) -> list[Event]:
    decision = Decision.CONFIRM if state is State.CONFIRMED else Decision.ROLL_BACK
    points = [Proved(point=f"p{n}", result=result, evidence="e") for n, result in enumerate(proof)]
    last = [judged("settle.restored", settled)] if settled else []
    middle = [Decided(decision=decision, because=()), Changed(state=state, by="r"), *points, *last]
    return [opened(), plan, *a, *slo, ANCHOR, *middle, ANCHOR, *end]


def of(found: Iterable[Event], **more: bool) -> Verdict:
    lines = entries(found)
    return verdict(lines, Ending.of(lines, **more))[0]


def back(*a: Event, **more: object) -> list[Event]:
    return events(a, state=State.RESTORED, **more)  # type: ignore[arg-type]


def test_everything_passed_proven_anchored_and_closed_is_go() -> None:
    assert of(events()) is GO


def test_a_failure_of_the_candidates_restored_is_no_go() -> None:
    assert of(back(judged("a.a", FAIL, Blame.CANDIDATE))) is NO_GO


@pytest.mark.parametrize("blame", [Blame.PLATFORM, Blame.HARNESS, Blame.UNKNOWN])
def test_anybody_elses_failure_is_inconclusive(blame: Blame) -> None:
    assert of(back(judged("a.a", FAIL, blame))) is INCONCLUSIVE


def the_owners(found: list[Event]) -> list[Event]:
    """The same run, whose way back is its owner's."""
    return [opened().model_copy(update={"owner": "Application argocd/llama"}), *found[1:]]


def test_a_failure_that_only_the_owner_can_roll_back_is_inconclusive_and_names_him() -> None:
    lines = entries(the_owners(back(judged("a.a", FAIL, Blame.CANDIDATE))))
    reached, because = verdict(lines, Ending.of(lines))
    assert reached is INCONCLUSIVE and because[0].startswith("a.a: FAIL, blame: candidate")
    assert because[-1] == "hotfire restored nothing: the way back is the owner's, Application argocd/llama must roll back"
    assert of(the_owners(events())) is GO


def test_what_stays_suspended_is_said_with_the_command_that_resumes_it() -> None:
    suspended = Suspended(object="Application argocd/llama", resume="kubectl -n argocd patch …")
    for unproven, reached in ((Proof.PROVEN, NO_GO), (Proof.UNPROVEN, UNSAFE)):
        lines = entries([*back(judged("a.a", FAIL, Blame.CANDIDATE), suspended, suspended, proof=(Proof.PROVEN, unproven))])
        found, because = verdict(lines, Ending.of(lines))
        assert found is reached and because.count(suspended.line) == 1 and suspended.resume in suspended.line


@pytest.mark.parametrize("one", [INVALID, NOT_RUN])
def test_what_was_not_judged_is_inconclusive(one: Outcome) -> None:
    assert of(back(judged("a.a", one))) is INCONCLUSIVE


def test_a_silent_check_is_not_run_and_named() -> None:
    found = outcomes(entries(back()))
    assert (found["a.a"].outcome, found["a.a"].reason) == (NOT_RUN, Reason.SILENT) and of(back()) is INCONCLUSIVE


def test_an_advisory_check_never_decides() -> None:
    assert of([*events()[:-1], judged("t.t", FAIL, Blame.CANDIDATE), Closed()]) is GO


def test_green_without_its_evidence_is_invalid() -> None:
    found = outcomes(entries(events((judged("a.a", PASS),))))["a.a"]
    assert (found.outcome, found.reason, found.blame) == (INVALID, Reason.NO_EVIDENCE, Blame.HARNESS)


def test_evidence_per_population_is_counted_in_the_record() -> None:
    plan = Planned(checks=(check("a.a", evidence="2 grant per pod"),))
    seen = [Seen(check="a.a", noun="pod", count=2), Seen(check="a.a", noun="grant", count=3)]
    found = outcomes(entries([plan, *seen, judged("a.a", PASS)]))["a.a"]
    assert found.message == "green without its evidence: 3 of 4 grant seen"


@pytest.mark.parametrize("order", list(itertools.permutations([PASS, FAIL, INVALID, NOT_RUN])))
def test_of_two_judgements_the_worst_counts(order: Sequence[Outcome]) -> None:
    for n in range(1, 5):
        worst = max(order[:n], key=[PASS, NOT_RUN, INVALID, FAIL].index)
        assert outcomes(entries([PLAN, SEEN, *(judged("a.a", one) for one in order[:n])]))["a.a"].outcome is worst


def test_a_recovery_without_a_proven_effect_is_invalid() -> None:
    plan = Planned(checks=(check("faults.recovers[kill]"),))
    effect = Faulted(fault="kill", step="effect", effect=Effect.NO_EFFECT, data={})
    for steps in ([], [effect], [effect.model_copy(update={"fault": "other", "effect": Effect.CONFIRMED})]):
        assert outcomes(entries([plan, *steps, judged("faults.recovers[kill]", PASS)])).popitem()[1].reason is Reason.NO_EFFECT


def test_an_unsound_client_takes_the_blame_for_a_missed_objective() -> None:
    plan = Planned(checks=(*PLAN.checks, check("load.client", blames="harness")))
    slo = (judged("load.slo[x]", FAIL, Blame.CANDIDATE), judged("load.client", FAIL, Blame.HARNESS))
    assert of(back(SEEN, judged("a.a", PASS), slo=slo, plan=plan)) is INCONCLUSIVE


def test_without_a_required_objective_it_is_never_go() -> None:
    plan = Planned(checks=(*PLAN.checks[:1], check("load.slo[x]", gate="advisory"), *PLAN.checks[2:]))
    assert decide(entries(events(plan=plan)))[1] == ("every objective is advisory: none could have failed",)
    assert of(back(SEEN, judged("a.a", PASS), plan=plan)) is INCONCLUSIVE


def test_a_plan_that_asks_nothing_is_never_go() -> None:
    for plan in (Planned(checks=()), Planned(checks=(check("a.a", asked=False, reason="not-asked"),))):
        assert of(back(plan=plan, slo=(), settled=None)) is INCONCLUSIVE


def test_an_objective_the_mode_forbids_is_not_asked_for_go() -> None:
    plan = Planned(checks=(*PLAN.checks[:1], check("load.slo[x]", asked=False, reason="no-consent"), *PLAN.checks[2:]))
    assert of(events(slo=(), plan=plan)) is GO


def test_a_check_that_was_never_planned_is_a_doubt() -> None:
    assert of(back(SEEN, judged("a.a", PASS), judged("b.b", PASS))) is INCONCLUSIVE


@pytest.mark.parametrize("proof", [(), (Proof.NOT_APPLICABLE,), (Proof.PROVEN, Proof.UNPROVEN), (Proof.UNPROVEN,)])
def test_an_end_that_is_not_proven_is_unsafe(proof: Sequence[Proof]) -> None:
    assert of(events(proof=proof)) is UNSAFE and of(back(judged("a.a", FAIL), proof=proof)) is UNSAFE


@pytest.mark.parametrize("what", ["rehearsal", "drill"])
def test_a_way_back_before_the_end_neither_proves_nor_disproves_the_end(what: str) -> None:
    before = [Proved.model_validate({"of": what, "point": "p0", "result": result, "evidence": "e"}) for result in Proof]
    seen = (*before, SEEN, judged("a.a", PASS))
    assert of(events(seen)) is GO and of(events(seen, proof=())) is UNSAFE


@pytest.mark.parametrize("state", [one for one in State if not one.final])
def test_a_state_that_is_not_final_is_unsafe(state: State) -> None:
    assert of(events(state=state)) is UNSAFE


def test_a_settling_that_failed_is_unsafe_whatever_else() -> None:
    assert of(events(settled=FAIL)) is UNSAFE and of(back(judged("a.a", FAIL), settled=INVALID)) is UNSAFE


def test_a_candidate_that_serves_without_a_go_is_unsafe() -> None:
    assert of(events((judged("a.a", FAIL, Blame.CANDIDATE),))) is UNSAFE
    certify = [opened(Mode.CERTIFY), *events((judged("a.a", FAIL, Blame.CANDIDATE),))[1:]]
    assert of(certify) is NO_GO  # there it is absent, and that is proven


def test_not_closed_not_whole_not_anchored_or_interrupted_is_inconclusive_at_best() -> None:
    failed = judged("a.a", FAIL, Blame.CANDIDATE)
    assert of(back(failed, end=())) is INCONCLUSIVE and of(back(failed), whole=False) is INCONCLUSIVE
    assert of([event for event in back(failed) if event != ANCHOR]) is INCONCLUSIVE
    assert of(back(failed, Signalled(signal="SIGTERM"))) is INCONCLUSIVE
    assert of(back(failed, judged("load.slo[x]", INVALID, reason=Reason.INTERRUPTED))) is INCONCLUSIVE


def test_an_anchor_of_another_record_does_not_count() -> None:
    failed = [event for event in back(judged("a.a", FAIL)) if event != ANCHOR]
    assert of([*failed[:-1], Anchored(head="f" * 64), Closed()]) is INCONCLUSIVE


def test_the_last_anchor_covers_every_check_before_the_decision() -> None:
    found = back(judged("a.a", FAIL))
    early = [event for event in found if event != ANCHOR]
    assert of([*early[:2], ANCHOR, *early[2:]]) is INCONCLUSIVE


def test_the_decision_asks_what_comes_before_settling_only() -> None:
    before = entries([opened(), PLAN, SEEN, judged("a.a", PASS), judged("load.slo[x]", PASS)])
    assert decide(before) == (Decision.CONFIRM, ("all 2 required checks passed",))
    assert decide(before[:-1])[0] is Decision.ROLL_BACK
    assert decide([*before, *entries([Signalled(signal="SIGINT")])])[0] is Decision.ROLL_BACK


CHANCES: Sequence[Sequence[Event]] = (
    (),
    (SEEN, judged("a.a", PASS)),
    (judged("a.a", PASS),),
    (judged("a.a", FAIL, Blame.CANDIDATE),),
    (judged("a.a", FAIL, Blame.PLATFORM),),
    (judged("a.a", INVALID),),
    (SEEN, judged("a.a", PASS), Signalled(signal="SIGINT")),
)
SLO = [(), *((judged("load.slo[x]", outcome, Blame.CANDIDATE),) for outcome in Outcome)]
PROOFS = [(), (Proof.PROVEN,), (Proof.PROVEN, Proof.UNPROVEN)]
ALL = list(itertools.product(CHANCES, SLO, State, PROOFS, (PASS, FAIL, None), ((), (Closed(),))))
SUPPORTING = (Seen, Anchored, Closed, Planned)


def supports(event: Event) -> bool:
    return (
        isinstance(event, SUPPORTING)
        or (isinstance(event, Judged) and event.outcome is PASS)
        or (isinstance(event, Proved) and event.result is Proof.PROVEN)
    )


def test_of_all_small_runs_exactly_the_whole_one_is_go_and_taking_evidence_away_never_makes_one() -> None:
    go = 0
    for a, slo, state, proof, settled, end in ALL:
        lines = entries(events(a, slo, state=state, proof=proof, settled=settled, end=end))
        came_to = verdict(lines, Ending.of(lines))[0]
        go += came_to is GO
        for position, line in enumerate(lines):
            if came_to is not GO and supports(line.event):
                less = lines[:position] + lines[position + 1 :]
                assert verdict(less, Ending.of(less))[0] is not GO
    assert go == 1


def test_what_speaks_against_it_never_makes_a_verdict_better() -> None:
    better = [GO, NO_GO, INCONCLUSIVE, UNSAFE]
    against = [judged("a.a", FAIL, Blame.PLATFORM), judged("a.a", INVALID), judged("b.b", PASS), Signalled(signal="SIGTERM")]
    for a, slo, state in itertools.product(CHANCES, SLO, (State.CONFIRMED, State.RESTORED)):
        plain = of(events(a, slo, state=state))
        for one in against:
            worse = of(events((*a, one), slo, state=state))
            assert worse is not GO and (better.index(worse) >= better.index(plain) or plain is INCONCLUSIVE)


def test_no_line_can_be_taken_out_of_the_file_of_any_run_to_make_a_go(tmp_path: Path) -> None:
    for number, chance in enumerate(CHANCES):
        recorder = Recorder(tmp_path / f"{number}.jsonl", Redactor())
        for event in events(chance):
            recorder.emit(Anchored(head=recorder.head) if event == ANCHOR else event)
        lines = recorder.path.read_bytes().splitlines(keepends=True)
        for gone in range(len(lines)):
            recorder.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
            found, broken = read_as_far(recorder.path)
            assert verdict(found, Ending.of(found, whole=broken is None))[0] is not GO

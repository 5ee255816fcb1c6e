"""A check that is green without its evidence is not green, and a plan knows what it must hear of."""

from pathlib import Path

import pytest

from hotfire.check import CheckSpec, Evidence, catalogue, plan, read_suites, running, saw, write_catalogue
from hotfire.errors import HarnessError, Unjudged
from hotfire.record.events import Seen
from hotfire.scenario.model import Scenario
from hotfire.words import Mode, Reason

ROOT = Path(__file__).parents[2]
SPEC = CheckSpec("x.y", Evidence("grant", per="pod"))


def scenario(**changes: object) -> Scenario:
    serves = {"workload": "deployment/a", "service": "a", "runtime": "tiny", "model": "m"}
    base = {"apiVersion": "hotfire/v1", "kind": "Scenario", "name": "a", "about": "a", "stand": {"namespace": "n"}}
    return Scenario.model_validate({**base, "candidate": {"serves": [serves]}, **changes})


def test_evidence_is_counted_per_population() -> None:
    assert SPEC.needs.missing({"pod": 2, "grant": 2}) == ""
    assert SPEC.needs.missing({"pod": 2, "grant": 1}) == "1 of 2 grant seen"


def test_a_population_of_nobody_never_suffices() -> None:
    assert SPEC.needs.missing({}) == "no pod was seen"


def test_what_a_noun_sees_goes_to_the_running_check() -> None:
    events: list[Seen] = []
    with running("x.y[a]", SPEC, events.append) as current:
        saw("pod", 2, ["a", "b"])
    assert current.seen == {"pod": 2} and events[0].check == "x.y[a]" and events[0].observed == ["a", "b"]


def test_an_empty_population_is_unjudged_and_still_recorded() -> None:
    events: list[Seen] = []
    with running("x.y", SPEC, events.append), pytest.raises(Unjudged) as caught:
        saw("pod", 0)
    assert caught.value.reason is Reason.EMPTY and events[0].count == 0


def test_an_observation_outside_a_check_is_our_fault() -> None:
    with pytest.raises(HarnessError, match="outside a check"):
        saw("pod", 1)


def test_the_catalogue_is_what_the_suites_say() -> None:
    assert write_catalogue(read_suites(ROOT / "suites")) == (ROOT / "hotfire" / "checks.json").read_text()


def test_an_id_used_twice_is_refused(tmp_path: Path) -> None:
    test = '@check("a.b", needs=Evidence("x"))\ndef test_{}():\n    """Q."""\n'
    (tmp_path / "test_10_a.py").write_text(test.format("one") + test.format("two"))
    with pytest.raises(HarnessError, match=r"used twice: a\.b"):
        read_suites(tmp_path)


def test_what_a_scenario_does_not_declare_is_planned_as_not_asked() -> None:
    planned = {check.key: check for check in plan(catalogue(), scenario())}
    assert not planned["load.slo"].asked and planned["load.slo"].reason is Reason.NOT_ASKED
    assert planned["startup.within"].asked and planned["behaviour.identity[a]"].asked


def test_promote_runs_faults_only_with_consent() -> None:
    faults = [{"name": "gone", "kill": "one pod", "serving_again_within": "9s"}]
    reasons = {
        consent: {
            check.key: check.reason for check in plan(catalogue(), scenario(mode="promote", faults=faults, consent=consent))
        }
        for consent in ((), ("kill",))
    }
    assert reasons[()]["faults.recovers[gone]"] is Reason.NO_CONSENT
    assert reasons[("kill",)]["faults.recovers[gone]"] is None
    assert scenario(mode="certify").mode is Mode.CERTIFY


@pytest.mark.parametrize(
    ("changes", "rehearsal", "drill"),
    [
        ({}, Reason.NOT_ASKED, None),
        ({"rollback": {"rehearse": True}}, None, None),
        ({"mode": "promote"}, Reason.NOT_ASKED, Reason.NOT_ASKED),
        ({"mode": "promote", "consent": ["rehearse", "drill"]}, Reason.NOT_ASKED, Reason.NOT_ASKED),
        ({"mode": "promote", "rollback": {"rehearse": True, "drill": True}}, Reason.NO_CONSENT, Reason.NO_CONSENT),
        ({"mode": "promote", "rollback": {"rehearse": True}, "consent": ["rehearse"]}, None, Reason.NOT_ASKED),
        ({"mode": "promote", "rollback": {"rehearse": True, "drill": True}, "users": "none"}, None, None),
    ],
)
def test_the_way_back_is_gone_beforehand_where_declared_and_allowed_and_at_the_end_of_every_certify(
    changes: dict[str, object], rehearsal: Reason | None, drill: Reason | None
) -> None:
    planned = {check.id: check.reason for check in plan(catalogue(), scenario(**changes))}
    assert (planned["rollback.rehearsed"], planned["rollback.returns"]) == (rehearsal, rehearsal)
    assert (planned["drill.way-back"], planned["drill.returns"]) == (drill, drill)

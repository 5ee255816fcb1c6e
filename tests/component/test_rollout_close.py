"""`hotfire settle RUN` on a real API server: a run that died between its commit point and the end of its record."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotfire.cli import main
from hotfire.errors import BadInput, Refused
from hotfire.journal.entries import PutBack
from hotfire.journal.journal import Journal
from hotfire.journal.lease import Lease
from hotfire.kube.client import Cluster, Ref
from hotfire.plugin.close import settle
from hotfire.record.events import Anchored, Decided, Judged, Opened, Planned, PlannedCheck, Seen
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.report.judge import judge
from hotfire.rollout.committed import digests
from hotfire.rollout.settle import finish
from hotfire.words import Decision, Mode, Outcome, State, Verdict
from tests.component.test_rollout_proof import StillLife, edit_settings, rotated_secret

CHECKS = (("startup.population", "1 pod"), ("settle.restored", "1 proof-point"), ("settle.within", "1 time"))


class Died:
    """run-a, which confirmed what stands there, wrote so, and was killed. folder: its own."""

    def __init__(self, life: StillLife, folder: Path) -> None:
        self.life, self.cluster, self.namespace = life, life.cluster, life.namespace
        self.folder, self.told = folder / "run-a", list[str]()
        self.folder.mkdir()
        head, journal = self.record(), life.scene.journal
        for state in (State.ARMED, State.APPLYING):
            journal.move(state, by="run-a")
        journal.record(*(PutBack.of(Ref.of(obj), uid="u") for obj in (life.deployment, life.settings)))
        journal.write(soak_s=0, lease_s=1, state=State.TESTING)
        journal.move(State.CONFIRMED, by="run-a", confirmed=head, committed=digests(journal))

    def record(self) -> str:
        recorder = Recorder(self.folder / "record.jsonl", Redactor())
        words = {"scenario": "s", "about": "a", "baseline": "b", "accelerators": "simulated", "stand": "s", "way_back": "w"}
        words |= {"scenario_digest": "d", "candidate_digest": "c", "users": "none", "version": "0", "run": "run-a"}
        recorder.emit(Opened(mode=Mode.PROMOTE, namespace=self.namespace, **words))
        checks = tuple(PlannedCheck(id=id, suite="s", question="q", evidence=evidence) for id, evidence in CHECKS)
        recorder.emit(Planned(checks=checks))
        recorder.emit(Seen(check="startup.population", noun="pod", count=1))
        recorder.emit(Judged(check="startup.population", outcome=Outcome.PASS))
        recorder.emit(Anchored(head=recorder.head))
        recorder.emit(Decided(decision=Decision.CONFIRM, because=("all 1 required checks passed",)))
        recorder.abandon()
        return recorder.head

    def settle(self, namespace: str | None = None) -> Verdict:
        return settle(lambda: self.cluster, self.folder, namespace, gone=not self.file.exists(), tell=self.told.append)

    @property
    def journal(self) -> Journal:
        found = Journal.read(self.cluster, self.namespace, "deployment/llama")
        assert found is not None
        return found

    @property
    def file(self) -> Path:
        return self.folder / "record.jsonl"


@pytest.fixture
def died(cluster: Cluster, namespace: str, tmp_path: Path) -> Died:
    return Died(StillLife(cluster, namespace), tmp_path)


def test_it_is_proven_closed_and_go_and_again_there_is_nothing_to_do(died):
    assert died.settle() is Verdict.GO, died.told
    judged = judge(died.folder)
    assert (judged.verdict, judged.agrees) == (Verdict.GO, True) and (died.folder / "certificate.html").exists()
    assert (died.journal.ended, died.journal.body.last_verdict) == (True, "GO")
    before = died.file.read_bytes()
    assert died.settle() is Verdict.GO and "nothing to do" in died.told[-1] and died.file.read_bytes() == before


def test_the_command_exits_as_the_verdict_says(died, control_plane):
    words = ["settle", str(died.folder), "--kubeconfig", str(control_plane.kubeconfig("admin"))]
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0 and "goes on with the record" in ended.output, ended.output
    died.file.unlink()
    assert CliRunner().invoke(main, words).exit_code == 4


def test_a_secret_is_compared_under_the_runs_own_key(died):
    journal = died.journal
    journal.record(PutBack.of(Ref.of(died.life.token), uid="u"))
    journal.write(committed=digests(journal))
    rotated_secret(died.life)
    assert died.settle() is Verdict.UNSAFE and "bmV3" not in died.journal.body.model_dump_json() + died.file.read_text()
    assert any("secret/token is not as it was confirmed" in line for line in died.told), died.told


def test_a_torn_last_line_was_never_written(died):
    with died.file.open("ab") as file:
        file.write(b'{"seq":6,"at"')
    assert died.settle() is Verdict.GO and judge(died.folder).agrees


def test_a_folder_without_a_record_is_bad_input_unless_it_is_said_to_be_lost(died):
    with pytest.raises(BadInput, match=r"elsewhere: no record.jsonl in it, .* --record-lost"):
        settle(lambda: died.cluster, died.folder.with_name("elsewhere"), died.namespace, tell=died.told.append)
    assert not died.journal.ended


def test_a_record_that_was_closed_unsafe_stays_what_it_is(died):
    edit_settings(died.life)
    assert died.settle() is Verdict.UNSAFE
    before = died.file.read_bytes()
    assert died.settle() is Verdict.UNSAFE and "is lost (it is closed without a proven end)" in "".join(died.told)
    assert died.file.read_bytes() == before and died.journal.ended


def test_what_was_changed_since_it_was_confirmed_is_unsafe_and_keeps_the_next_run_out(died):
    edit_settings(died.life)
    assert died.settle() is Verdict.UNSAFE
    assert any("configmap/settings is not as it was confirmed" in line for line in died.told), died.told
    assert not died.journal.ended and judge(died.folder).verdict is Verdict.UNSAFE


def lose(died: Died) -> None:
    died.file.unlink()


def forge(died: Died) -> None:
    died.file.write_bytes(died.file.read_bytes().replace(b'"count":1', b'"count":2'))


def cut(died: Died) -> None:
    died.file.write_bytes(b"".join(died.file.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("spoil", "says"), [(lose, "no "), (forge, "line 3: its content is not what"), (cut, "it does not hold what was confirmed")]
)
def test_a_lost_record_is_unsafe_and_says_so(died, spoil: Callable[[Died], None], says: str):
    spoil(died)
    assert died.settle(died.namespace) is Verdict.UNSAFE
    assert f"the record of run run-a is lost ({says}" in died.told[0]
    assert (died.journal.ended, died.journal.body.last_verdict) == (True, "UNSAFE")


def test_a_run_that_lives_is_let_alone(died):
    held = Lease.take(died.cluster, died.namespace, ["deployment/llama"], "run-a", 1)
    with held, pytest.raises(Refused, match="held by run run-a"):
        died.settle()
    assert died.journal.state is State.CONFIRMED and not died.journal.ended


def test_what_never_confirmed_is_not_settled(died):
    died.journal.write(state=State.TESTING)
    with pytest.raises(Refused, match="confirmed nothing, it is TESTING: `hotfire abort"):
        died.settle()


def test_without_a_record_the_namespace_must_be_named(died):
    died.file.unlink()
    with pytest.raises(BadInput, match="--namespace is expected"):
        died.settle()
    died.folder = died.folder.with_name("run-z")
    with pytest.raises(BadInput, match=r"no journal in namespace .* is of run run-z"):
        died.settle(died.namespace)


def test_what_a_watchdog_cleaned_up_and_proved_meanwhile_is_closed_by_its_proof(died):
    """Its Secret too, of which nothing is left to compare with."""
    secret = PutBack.of(Ref.of(died.life.token), uid="u")
    journal = died.journal
    journal.record(secret)
    journal.write(committed=digests(journal))
    finish(died.journal, lambda: None, died.told.append, "watchdog/dog", "the Lease ran out")
    assert (died.journal.ended, died.journal.body.last_verdict) == (True, "UNSAFE")
    assert died.settle() is Verdict.GO and died.journal.body.last_verdict == "GO", died.told

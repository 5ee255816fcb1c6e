"""One certification as a pytest session: open, collect, run the checks in order, settle, report, exit."""

import os
import shutil
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hotfire.check import ATTRIBUTE, FIXTURE, CheckSpec, Findings, Running, parameters, running
from hotfire.errors import BadInput, Breach, Halted, HarnessError, Interrupted, Refused, Unjudged
from hotfire.gates.decision import outcomes
from hotfire.kube.wait import interrupt, interrupted
from hotfire.plugin import fixtures
from hotfire.plugin.pipeline import Given, Phase, go_on, passes, wait
from hotfire.plugin.run import ALLURE, Run, located
from hotfire.record.events import Judged, PlannedCheck
from hotfire.scenario.loader import load
from hotfire.words import Blame, Outcome, Reason

NOT_PASSED = (Outcome.FAIL, Outcome.INVALID, Outcome.NOT_RUN)
BLOCKING = {  # suite -> outcomes after which nothing further is asked
    "test_10_preflight": NOT_PASSED,
    "test_20_deploy": NOT_PASSED,
    "test_30_scheduling": (Outcome.FAIL, Outcome.NOT_RUN),  # devices of a container that never ran are for startup to explain
    "test_40_startup": NOT_PASSED,
    "test_65_rehearsal": NOT_PASSED,  # what has no way back takes no load
}
SETTLE = "test_90_settle"  # runs whatever came before it
KEY = pytest.StashKey[str]()
SPEC = pytest.StashKey[CheckSpec]()


class Certification:
    """Registered only when a scenario is given."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.run: Run | None = None
        self.current: Running | None = None
        self.suite = ""
        self.blocked_by = ""
        self.asked: dict[str, PlannedCheck] = {}
        self._signals: dict[int, Any] = {}
        self.phase = Phase(config.getoption("--hotfire-phase"))
        path, namespace = Path(config.getoption("--hotfire-scenario")), config.getoption("--hotfire-namespace")
        try:
            if config.option.collectonly:  # a look at the checks needs no images
                self.located = load(path, namespace)
            else:
                images, watchdog = config.getoption("--hotfire-image"), config.getoption("--hotfire-watchdog-image")
                self.located = located(path, namespace, images, watchdog)
                self.given = Given(scenario=str(path.resolve()), namespace=namespace, images=tuple(images), watchdog=watchdog)
                if lines := self.phase.fits(self.located):
                    raise BadInput(*lines)
        except BadInput as bad:
            raise pytest.UsageError(*bad.lines) from None
        config.args += map(str, self.located.checks)

    # -- the three steps before anything changes ------------------------------------------------------------------

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if self.config.option.collectonly:
            return
        try:
            self.run = self._open()
        except BadInput as bad:
            raise pytest.UsageError(*bad.lines) from None
        except Refused as refused:
            raise pytest.UsageError(str(refused)) from None
        except HarnessError as error:  # an API server that fails meanwhile: nothing was changed, the run did not begin
            raise pytest.UsageError(f"the run did not begin: {error}") from None
        self.asked = {planned.key: planned for planned in self.run.planned}
        if pointer := self.config.getoption("--hotfire-pointer"):
            Path(pointer).write_text(str(self.run.folder), encoding="utf-8")
        self.config.stash[fixtures.RUN] = self.run
        self.config.pluginmanager.register(fixtures, "hotfire-nouns")
        for number in (signal.SIGINT, signal.SIGTERM):
            self._signals[number] = signal.signal(number, self._interrupted)
        self.run.users.begin()

    def _open(self) -> Run:
        option, tell = self.config.getoption, _terminal_line()
        kubeconfig, context = option("--hotfire-kubeconfig"), option("--hotfire-context")
        if self.phase is Phase.VERIFY:
            return go_on(self.located, Path(option("--hotfire-run")), kubeconfig, context, settles=False, tell=tell)
        reports, waits = Path(option("--hotfire-reports")), option("--hotfire-wait")
        return Run.open(self.located, kubeconfig=kubeconfig, context=context, reports=reports, wait=waits, tell=tell)

    def _interrupted(self, number: int, frame: object) -> None:
        """Only words are set here; whoever waits sees them within 250 ms."""
        if self.run is not None:
            self.run.signal = signal.Signals(number).name
        interrupt()

    # -- collection -----------------------------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        spec: CheckSpec | None = getattr(metafunc.function, ATTRIBUTE, None)
        if spec is None or not spec.per:
            return
        declared = parameters(spec, self.located.scenario) or [("", None)]  # ("", None) is dropped below as not asked
        names, values = zip(*declared, strict=True)
        metafunc.parametrize(FIXTURE[spec.per], values, ids=names, indirect=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.run is None:
            return
        known = {spec.id: spec for spec in self.run.checks}
        kept: list[tuple[tuple[bool, str, int, int], pytest.Item]] = []
        dropped: list[pytest.Item] = []
        for position, item in enumerate(items):
            spec: CheckSpec | None = getattr(getattr(item, "function", None), ATTRIBUTE, None)
            if spec is None:
                raise pytest.UsageError(f"{item.nodeid} is not a hotfire check: give it @check(id, needs=…)")
            if spec.id not in known:
                raise pytest.UsageError(f"{item.nodeid}: the check {spec.id} was not planned (run `make checks`)")
            spec = known[spec.id]
            callspec = getattr(item, "callspec", None)
            key = f"{spec.id}[{callspec.id}]" if spec.per and callspec and callspec.id else spec.id
            key = key if key in self.asked else spec.id  # not asked at all, it was planned without its parameters
            if key not in self.asked:
                raise pytest.UsageError(f"{item.nodeid}: the check {key} was not planned")
            item.stash[KEY], item.stash[SPEC] = key, spec
            order = next(iter(callspec.indices.values())) if spec.per == "faults" and callspec else 0
            if self.asked[key].asked and self.phase.asks(spec.suite):
                kept.append(((spec.suite == SETTLE, spec.suite, order, position), item))
            else:
                dropped.append(item)
        items[:] = [item for _, item in sorted(kept, key=lambda pair: pair[0])]
        if dropped:
            config.hook.pytest_deselected(items=dropped)

    # -- running --------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, trylast=True)  # before any fixture, within what pytest keeps of its own around a test
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        run = self._opened()
        spec = item.stash[SPEC]
        if spec.suite != self.suite:
            self._stage(spec.suite)
        if interrupted() and spec.suite != SETTLE:
            raise pytest.skip.Exception("blocked: a signal asked the run to stop", _use_item_location=True)
        if run.halted and spec.suite not in (run.halted_in, SETTLE):
            raise pytest.skip.Exception(f"blocked: {run.halted}", _use_item_location=True)
        if self.blocked_by and spec.suite not in (self.blocked_by, SETTLE) and not run.halted:
            raise pytest.skip.Exception(f"blocked: {self.blocked_by} failed", _use_item_location=True)
        with _halting():
            if spec.suite != SETTLE and not run.halted:
                run.check_lease()
            return (yield)

    def _stage(self, suite: str) -> None:
        run = self._opened()
        if self.suite:
            run.stage(self.suite, "ended", anchor=not self.blocked_by)  # else nothing may keep the way back waiting
        self.suite = suite
        run.stage(suite, "began")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with running(item.stash[KEY], item.stash[SPEC], self._opened().emit) as self.current, _halting():
            return (yield)

    def pytest_assertrepr_compare(self, config: pytest.Config, op: str, left: object, right: object) -> None:
        if self.current is not None:
            self.current.failed = (left, op, right)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.when == "call" or (call.when == "setup" and not report.passed) or (call.when == "teardown" and report.failed):
            judged = self._judge(item, call, report)
            self._opened().emit(judged)
            self._reflect(report, judged)
            if judged.outcome in BLOCKING.get(item.stash[SPEC].suite, ()):
                self.blocked_by = self.blocked_by or item.stash[SPEC].suite
        if call.when == "call":
            self.current = None
        return report

    def _judge(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> Judged:
        """One outcome from what pytest saw: green without its evidence is INVALID, a foreign exception is ours."""
        spec, key, seconds = item.stash[SPEC], item.stash[KEY], call.duration
        error = call.excinfo.value if call.excinfo else None

        def judged(outcome: Outcome, reason: Reason | None, blame: Blame | None, message: str = "", **more: Any) -> Judged:
            return Judged(check=key, outcome=outcome, reason=reason, blame=blame, message=message, seconds=seconds, **more)

        if call.when == "teardown":
            return judged(Outcome.INVALID, Reason.HARNESS, Blame.HARNESS, f"teardown: {error}")
        if hasattr(report, "wasxfail"):
            passed = report.passed
            reason = Reason.XPASS if passed else Reason.XFAIL
            return judged(
                Outcome.INVALID if passed else Outcome.FAIL, reason, spec.blames, "an expected failure decides nothing"
            )
        if report.skipped:
            text = str(error)
            return judged(Outcome.NOT_RUN, Reason.BLOCKED if text.startswith("blocked") else Reason.SKIPPED, None, text)
        if isinstance(error, Unjudged):
            return judged(Outcome.INVALID, error.reason, error.blame, error.message, details=error.details)
        if isinstance(error, Interrupted):
            return judged(Outcome.INVALID, Reason.INTERRUPTED, Blame.HARNESS, "a signal asked the run to stop")
        if call.when == "setup":
            return judged(Outcome.INVALID, Reason.SETUP, Blame.HARNESS, f"{type(error).__name__}: {error}")
        if isinstance(error, Breach):
            return judged(
                Outcome.FAIL, error.reason, error.blame or spec.blames, error.message,
                details=error.details, observed=error.observed, expected=error.expected,
            )  # fmt: skip
        if isinstance(error, AssertionError):
            return self._failed_assertion(spec, judged)
        if isinstance(error, pytest.fail.Exception) and "Timeout" in str(error):
            return judged(Outcome.INVALID, Reason.TIMEOUT, Blame.HARNESS, str(error).splitlines()[0])
        if isinstance(error, HarnessError):
            return judged(Outcome.INVALID, Reason.HARNESS, Blame.HARNESS, f"{type(error).__name__}: {error}")
        if error is not None:
            return judged(Outcome.INVALID, Reason.FOREIGN, Blame.HARNESS, f"{type(error).__name__}: {error}")
        if report.failed:  # without an exception: an expected failure that passed and must not have (xfail strict)
            return judged(Outcome.INVALID, Reason.XPASS, spec.blames, str(report.longrepr))
        seen = self.current.seen if self.current else {}
        if missing := spec.needs.missing(seen):
            return judged(Outcome.INVALID, Reason.NO_EVIDENCE, Blame.HARNESS, f"green without its evidence: {missing}")
        return judged(Outcome.PASS, None, None)

    def _failed_assertion(self, spec: CheckSpec, judged: Any) -> Judged:
        left, op, right = (self.current.failed if self.current else None) or (None, "", None)
        if isinstance(left, Findings):
            result: Judged = judged(
                Outcome.FAIL, left.reason, left.blame or spec.blames, left.headline or (left[0] if left else ""),
                details=tuple(left), observed=left.observed, expected=left.expected,
            )  # fmt: skip
        else:
            text = f"{spec.question} Seen: {left!r}, expected {op} {right!r}"
            result = judged(Outcome.FAIL, Reason.BREACH, spec.blames, text, observed=_plain(left), expected=_plain(right))
        return result

    def _reflect(self, report: pytest.TestReport, judged: Judged) -> None:
        """pytest, JUnit and Allure must say what the record says."""
        words = f"{judged.outcome} {judged.check}: {judged.message}"
        if judged.outcome in (Outcome.FAIL, Outcome.INVALID):
            report.outcome = "failed"
            report.longrepr = "\n  ".join((words, *judged.details, f"blame: {judged.blame}"))
            if hasattr(report, "wasxfail"):
                del report.wasxfail

    # -- the end --------------------------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.run is None:
            return
        if self.suite:
            self.run.stage(self.suite, "ended")
        shutil.copytree(self.config.option.allure_report_dir, self.run.folder / ALLURE, dirs_exist_ok=True)
        session.exitstatus = self._finish(self.run)
        for number, handler in self._signals.items():
            signal.signal(number, handler)

    def _finish(self, run: Run) -> int:
        """The exit code: the verdict's, or of a run that waits whether its pipeline may go on."""
        left = (
            self.phase is not Phase.WHOLE
            and not interrupted()
            and not run.halted
            and not (self.phase is Phase.ARM and self._unasked(run))
        )
        if left and wait(run, self.phase, self.given):
            return 0 if self.phase is Phase.ARM or passes(run) else pytest.ExitCode.TESTS_FAILED
        return run.finish().exit_code

    def _unasked(self, run: Run) -> list[str]:
        """Checks that must have passed before a pipeline may deploy, and did not: also one that nobody came to ask."""
        found = outcomes(run.recorder.entries).values()
        return [
            one.key for one in found if one.decides and Phase.ARM.asks(one.planned.suite) and one.outcome is not Outcome.PASS
        ]

    def _opened(self) -> Run:
        if self.run is None:
            raise HarnessError("the run was never opened")
        return self.run


@contextmanager
def _halting() -> Iterator[None]:
    """What stops the run stops its check, which says nothing then."""
    try:
        yield
    except Halted as halted:
        raise pytest.skip.Exception(f"blocked: {halted}", _use_item_location=True) from None


def _plain(value: object) -> object:
    """What the record can hold of an asserted value."""
    return value if isinstance(value, str | int | float | bool | list | dict | None) else repr(value)


def _terminal_line() -> Any:
    """Write a line to the terminal past pytest's capture (facts: ecosystem 2, live output)."""
    descriptor = os.dup(1)
    began = time.monotonic()

    def write(line: str) -> None:
        with suppress(OSError):  # nobody reads any more: the run, and its way back, go on
            os.write(descriptor, f"{time.monotonic() - began:6.1f}s  {line}\n".encode())

    return write

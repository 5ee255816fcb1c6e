"""What the tests may cost: every area's time against its share in budget.toml."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
AREAS = tomllib.loads((HERE / "budget.toml").read_text())
PATHS = sorted(((path, area) for area, one in AREAS.items() for path in one["paths"]), key=lambda pair: -len(pair[0]))
TOLERATED = 1.5
spent: Counter[str] = Counter()


def area_of(nodeid: str) -> str:
    """The area with the longest path that the test's begins with."""
    inside = nodeid.removeprefix("tests/")
    return next((area for path, area in PATHS if inside.startswith(path)), "main-job")


def over() -> list[str]:
    return [area for area, seconds in spent.items() if seconds > 60 * TOLERATED * AREAS[area]["minutes"]]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    spent[area_of(report.nodeid)] += report.duration


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if over() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for area, seconds in sorted(spent.items()):
        late = "  OVER ITS BUDGET" if area in over() else ""
        terminalreporter.write_line(f"{area}: {seconds / 60:.1f} of {AREAS[area]['minutes']} min{late}")

"""`@check`: the only bridge between a test and the record.

A suite's test carries its id, the evidence without which green means nothing, and whom a failure is attributed to by
default. `checks.json` is generated from these decorators without importing the suites (`python -m hotfire.check`).
"""

import ast
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from hotfire.errors import HarnessError, Unjudged
from hotfire.record.events import PlannedCheck, Seen
from hotfire.runtimes.guarded import guards
from hotfire.scenario.model import Fault, Scenario
from hotfire.words import Blame, Gate, Reason

CATALOGUE = Path(__file__).with_name("checks.json")
ATTRIBUTE = "__hotfire_check__"
FIXTURE = {
    "slos": "slo",
    "compared": "slo",
    "faults": "fault",
    "injected": "secret",
    "candidate.serves": "service",
    "guarded": "counted",
}  # what `per` may be -> its noun
Test = TypeVar("Test", bound=Callable[..., None])


@dataclass(frozen=True)
class Evidence:
    """What must have been seen for green to count: `at_least` of a noun, for each `per` where that is given."""

    noun: str
    per: str = ""
    at_least: int = 1

    def __str__(self) -> str:
        return f"{self.at_least} {self.noun}" + (f" per {self.per}" if self.per else "")

    def missing(self, seen: dict[str, int]) -> str:
        """What is missing, in words; empty when the evidence suffices. A `per` population of nobody never suffices."""
        population = seen.get(self.per, 0) if self.per else 1
        if population == 0:
            return f"no {self.per} was seen"
        wanted, got = self.at_least * population, seen.get(self.noun, 0)
        return "" if got >= wanted else f"{got} of {wanted} {self.noun} seen"


@dataclass(frozen=True)
class CheckSpec:
    """One check as the catalogue knows it. when/per: paths in the scenario that must be declared for it to be asked."""

    id: str
    needs: Evidence
    blames: Blame = Blame.CANDIDATE
    gate: Gate = Gate.REQUIRED
    row: str = ""
    when: str = ""
    per: str = ""
    consent: str = ""
    suite: str = ""
    test: str = ""
    question: str = ""


class Findings(list[str]):
    """What is wrong, one line each, in a suite's `assert … == []`; carries what a failure must say beyond its lines.

    headline: one line, observed against expected; blame: who by rule, else the check's default; observed/expected: JSON;
    reason: of the FAIL.
    """

    def __init__(
        self,
        lines: Iterable[str] = (),
        headline: str = "",
        blame: Blame | None = None,
        observed: object = None,
        expected: object = None,
        reason: Reason = Reason.BREACH,
    ) -> None:
        super().__init__(lines)
        self.headline, self.blame, self.observed, self.expected = headline, blame, observed, expected
        self.reason = reason


@dataclass
class Running:
    """The check that is running now: what it has seen, where that goes, and the comparison that failed it."""

    key: str
    spec: CheckSpec
    emit: Callable[[Seen], object]
    seen: dict[str, int] = field(default_factory=dict)
    failed: tuple[object, str, object] | None = None  # left, operator, right of the assertion that did not hold


_running: ContextVar[Running | None] = ContextVar("hotfire_running_check", default=None)


def check(
    id: str,
    *,
    needs: Evidence,
    blames: str = "candidate",
    gate: str = "required",
    row: str = "",
    when: str = "",
    per: str = "",
    consent: str = "",
) -> Callable[[Test], Test]:
    """Declare a suite's test as a check. All arguments are literals, so that the catalogue can be read by AST."""
    spec = CheckSpec(id, needs, Blame(blames), Gate(gate), row, when, per, consent)

    def mark(test: Test) -> Test:
        setattr(test, ATTRIBUTE, spec)
        return test

    return mark


@contextmanager
def running(key: str, spec: CheckSpec, emit: Callable[[Seen], object]) -> Iterator[Running]:
    """What nouns see inside the block is evidence of this check."""
    current = Running(key, spec, emit)
    token = _running.set(current)
    try:
        yield current
    finally:
        _running.reset(token)


def saw(noun: str, count: int, observed: object = None, expected: object = None) -> None:
    """Write evidence under the running check. Raises Unjudged (EMPTY) for an empty population: nothing is not enough."""
    current = _running.get()
    if current is None:
        raise HarnessError(f"{noun} was observed outside a check")
    current.emit(Seen(check=current.key, noun=noun, count=count, observed=observed, expected=expected))
    current.seen[noun] = current.seen.get(noun, 0) + count
    if count == 0:
        raise Unjudged(f"{current.key}: there was no {noun} to look at", reason=Reason.EMPTY)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):  # Evidence(...)
        values = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
        return Evidence(*map(ast.literal_eval, node.args), **values)
    return ast.literal_eval(node)


def check_of(node: ast.FunctionDef, suite: str) -> CheckSpec | None:
    """What a test's `@check` says; None for any other. Raises ValueError for what is no literal or no word of ours."""
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "check":
            words = {word.arg: _literal(word.value) for word in call.keywords if word.arg}
            words |= {"blames": Blame(words.get("blames", "candidate")), "gate": Gate(words.get("gate", "required"))}
            question = (ast.get_docstring(node) or "").split("\n")[0]
            return CheckSpec(_literal(call.args[0]), **words, suite=suite, test=node.name, question=question)
    return None


def read_suites(folder: Path) -> list[CheckSpec]:
    """Every check of the suites, in file and line order, without importing them. Raises HarnessError on a double id."""
    found: list[CheckSpec] = []
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.parse(path.read_text(), str(path)).body:
            spec = check_of(node, path.stem) if isinstance(node, ast.FunctionDef) else None
            found += [spec] if spec else []
    ids = [spec.id for spec in found]
    if doubles := {id for id in ids if ids.count(id) > 1}:
        raise HarnessError(f"check ids used twice: {', '.join(sorted(doubles))}")
    return found


def write_catalogue(specs: Sequence[CheckSpec]) -> str:
    """The text of checks.json."""
    return json.dumps([asdict(spec) for spec in specs], indent=1) + "\n"


@functools.cache
def catalogue(path: Path = CATALOGUE) -> tuple[CheckSpec, ...]:
    """The checks of this hotfire, as generated."""
    rows = json.loads(path.read_text())
    return tuple(
        CheckSpec(**{**row, "needs": Evidence(**row["needs"]), "blames": Blame(row["blames"]), "gate": Gate(row["gate"])})
        for row in rows
    )


def _at(scenario: Scenario, path: str) -> Any:
    """A place of the scenario, such as `behaviour.golden`. Raises AttributeError for one that no scenario has."""
    value: Any = scenario
    for name in path.split("."):
        value = getattr(value, name) if value is not None else None
    return value


def parameters(spec: CheckSpec, scenario: Scenario) -> list[tuple[str, Any]]:
    """(id, value) of each parameter of a check that runs once per declared thing; ids are unique by lint."""
    values = _at(scenario, spec.per)
    names = [str(getattr(value, "id", None) or getattr(value, "name", None) or value) for value in values]
    return list(zip(names, values, strict=True))


def plan(specs: Sequence[CheckSpec], scenario: Scenario) -> tuple[PlannedCheck, ...]:
    """Every check, with those that scenario and mode do not ask for marked so and why."""
    planned: list[PlannedCheck] = []
    for spec in specs:
        common = {
            "id": spec.id, "suite": spec.suite, "test": spec.test, "question": spec.question, "row": spec.row,
            "gate": spec.gate, "blames": spec.blames, "evidence": str(spec.needs),
        }  # fmt: skip
        declared = parameters(spec, scenario) if spec.per else [("", None)]
        if not declared or (spec.when and not _at(scenario, spec.when)):
            planned.append(PlannedCheck(**common, asked=False, reason=Reason.NOT_ASKED))
            continue
        for name, value in declared:
            gate, reason = getattr(value, "gate", spec.gate), _withheld(spec, value, scenario)
            planned.append(PlannedCheck(**(common | {"gate": gate}), param=name, asked=reason is None, reason=reason))
    return tuple(planned)


def _withheld(spec: CheckSpec, value: Any, scenario: Scenario) -> Reason | None:
    """Why a declared thing is not asked about."""
    consent = value.family if isinstance(value, Fault) else spec.consent
    if consent and not scenario.permits(consent):
        return Reason.NO_CONSENT
    return Reason.NOT_COUNTED if spec.per == "guarded" and not guards(value, scenario) else None


def write_readme(specs: Sequence[CheckSpec], folder: Path) -> str:
    """The text of suites/README.md: the runbook's table of contents, in running order."""
    lines = ["# The runbook", "", "Generated from the suites by `make checks`; do not edit.", ""]
    for path in sorted(folder.glob("test_*.py")):
        lines += [
            f"## {path.stem[5:].replace('_', ' ')}",
            "",
            (ast.get_docstring(ast.parse(path.read_text())) or "").strip(),
            "",
        ]
        lines += [
            "| check | question | evidence it needs | blames by default | checklist row |",
            "|---|---|---|---|---|",
        ]
        for spec in (spec for spec in specs if spec.suite == path.stem):
            lines.append(f"| `{spec.id}` | {spec.question} | {spec.needs} | {spec.blames} | {spec.row or '-'} |")
        lines.append("")
    return "\n".join(lines)


@click.command()
@click.option("--check", "only_check", is_flag=True, help="fail if a generated file is stale, write nothing")
@click.argument("folder", type=click.Path(path_type=Path, exists=True), default=Path("suites"))
def main(only_check: bool, folder: Path) -> None:
    """Generate checks.json and the suites' README from the decorators."""
    specs = read_suites(folder)
    files = {CATALOGUE: write_catalogue(specs), folder / "README.md": write_readme(specs, folder)}
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if only_check and stale:
        raise click.ClickException(f"stale: {', '.join(map(str, stale))}; run `make checks`")
    for path in stale:
        path.write_text(files[path])


if __name__ == "__main__":
    main()

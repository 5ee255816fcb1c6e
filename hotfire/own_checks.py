"""A scenario's own checks: read like the suites', without importing them, and held to the same rules before a run opens."""

import ast
import re
from collections.abc import Iterator

from hotfire.check import FIXTURE, CheckSpec, Evidence, catalogue, check_of, plan
from hotfire.errors import BadInput
from hotfire.report.rows import ROWS
from hotfire.scenario.model import Located

ID = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+")
NOUN = re.compile(r"[a-z][a-z0-9-]*")
TAKEN = ("settle", "load", "faults")  # what begins so is judged by rules of its own


def checks_of(located: Located) -> tuple[CheckSpec, ...]:
    """hotfire's checks and the scenario's own, as a run may be asked for. Raises BadInput with every line that is wrong."""
    wrong: list[str] = []
    known = {name: "one of hotfire's own" for spec in catalogue() for name in (spec.id, spec.test)}
    suites = {spec.suite for spec in catalogue()}
    own: list[CheckSpec] = []
    for path in located.checks:
        if path.stem in suites:
            wrong.append(f"{path}:1:1: {path.name} is a suite of hotfire's, another name is expected")
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        except (SyntaxError, UnicodeDecodeError) as error:
            line, column = getattr(error, "lineno", 1) or 1, getattr(error, "offset", 1) or 1
            wrong.append(f"{path}:{line}:{column}: {getattr(error, 'msg', error)}, a Python module is expected")
            continue
        tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]
        if not tests:
            wrong.append(f"{path}:1:1: no test, functions test_… with @check(id, needs=Evidence(…)) are expected")
        for node in tests:
            where = f"{path}:{node.lineno}:{node.col_offset + 1}"
            try:
                spec = check_of(node, path.stem)
            except (ValueError, TypeError, IndexError) as error:
                wrong.append(f"{where}: @check of {node.name}: {error}; literals as in suites/ are expected")
                continue
            lines = list(_objections(spec, known, located)) if spec else [f"{node.name} has no @check(id, needs=Evidence(…))"]
            wrong += [f"{where}: {line}" for line in lines]
            if spec and not lines:
                known |= dict.fromkeys((spec.id, spec.test), f"that of {where}")
                own.append(spec)
    if wrong:
        raise BadInput(*wrong)
    return (*catalogue(), *own)


def _objections(spec: CheckSpec, known: dict[str, str], located: Located) -> Iterator[str]:
    taken = isinstance(spec.id, str) and spec.id not in known and spec.id.split(".")[0] in TAKEN
    if not isinstance(spec.id, str) or not ID.fullmatch(spec.id) or taken:
        yield f"the id {spec.id!r} is not allowed, such as cache.second-start is expected, none of {', '.join(TAKEN)}"
    if not isinstance(needs := spec.needs, Evidence):
        yield f"needs {needs!r} is no evidence, such as Evidence('start', per='serving-pod', at_least=2) is expected"
        return
    if type(needs.at_least) is not int or needs.at_least < 1:
        yield f"at_least {needs.at_least!r} lets a check pass that has seen nothing, 1 or more is expected"
    for noun in (needs.noun, needs.per or "any"):
        if not isinstance(noun, str) or not NOUN.fullmatch(noun):
            yield f"evidence of {noun!r} is not allowed, a word such as serving-pod is expected"
    for name in {spec.id, spec.test} & set(known):
        yield f"the name {name} is {known[name]}, another is expected"
    if spec.row and spec.row not in ROWS:
        yield f"the row {spec.row!r} is unknown, one of the checklist's is expected: {', '.join(ROWS)}"
    if spec.per and spec.per not in FIXTURE:
        yield f"per {spec.per!r} is not allowed, one of {', '.join(FIXTURE)} is expected"
        return
    try:
        plan([spec], located.scenario)
    except AttributeError:
        yield f"when {spec.when!r} is no place of a scenario, such as load or behaviour.golden is expected"

"""The suites read as a runbook: one question a test, at most twelve lines, no logic in it; and no module is too long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "suites").glob("test_*.py"))
FORBIDDEN = (ast.If, ast.Try, ast.For, ast.While, ast.With, ast.IfExp, ast.Lambda, ast.ListComp)
PINNED = (Path(__file__).parent / "check_ids.txt").read_text().split()


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]


def test_there_are_suites_to_look_at() -> None:
    assert len(SUITES) >= 9 and all(functions(path) for path in SUITES)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_opens_with_its_question(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert docstring.endswith(("?", "Touches nothing.")) and "\n" not in docstring


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_test_is_short_and_holds_no_logic(path: Path) -> None:
    for test in functions(path):
        assert (test.end_lineno or 0) - test.lineno < 12, test.name
        assert not [node for node in ast.walk(test) if isinstance(node, FORBIDDEN)], test.name
        assert ast.get_docstring(test), test.name
        assert any(isinstance(node, ast.Assert) for node in ast.walk(test)), test.name


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_imports_nothing_but_the_check(path: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in imports if isinstance(node, ast.ImportFrom)] == ["hotfire.check"] * len(imports)


def test_check_ids_are_pinned_and_never_reused() -> None:
    from hotfire.check import read_suites

    ids = [spec.id for spec in read_suites(ROOT / "suites")]
    assert ids == [line for line in PINNED if line in ids], "the pinned list keeps the running order"
    assert set(ids) <= set(PINNED), "a new check goes to check_ids.txt; a line of it is never removed"


def test_no_module_is_beyond_500_lines_without_a_reason_at_its_top() -> None:
    modules = {name: [*(ROOT / name).rglob("*.py")] for name in ("hotfire", "suites", "tests", "bench")}
    texts = {path: path.read_text() for found in modules.values() for path in found if "_pb2" not in path.name}
    long = [path for path, text in texts.items() if len(text.splitlines()) > 500 and "long because" not in text[:600]]
    assert all(modules.values()) and long == []

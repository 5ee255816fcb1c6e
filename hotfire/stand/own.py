"""What is in hotfire's own two images: the modules that a command's import reaches, and the packages they need, hash-locked.

`python -m hotfire.stand.own` writes the recipes' locks from requirements.lock (make lock); a test holds them current.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
WHOLE = PACKAGE.parent / "requirements.lock"  # of the checkout: an installed hotfire has the small ones only
RECIPES = Path(__file__).parent / "embedded" / "images"


@dataclass(frozen=True)
class Own:
    """command: what the image runs; more: modules started by it in processes of their own; roots: packages it needs."""

    command: str
    roots: tuple[str, ...]
    more: tuple[str, ...] = ()

    def modules(self) -> list[Path]:
        return modules(self.command, *self.more)


IMAGES = {
    "hotfire": Own("hotfire.rollout.watchdog", ("kubernetes", "pydantic", "PyYAML", "httpx")),
    "hotfire-load": Own("hotfire.load", ("click", "locust", "numpy"), ("hotfire.load.__main__", "hotfire.load.echo")),
}
NAME = re.compile(r"^[A-Za-z0-9][-A-Za-z0-9._]*")


def modules(*starts: str) -> list[Path]:
    """The files of hotfire that importing these may reach, those imported inside functions too, in a fixed order."""
    found: set[Path] = set()
    todo = list(starts)
    while todo:
        name = todo.pop()
        file = _file(name)
        if file is None or file in found:
            continue
        found.add(file)
        todo += [name.rpartition(".")[0], *_imported(ast.parse(file.read_text(encoding="utf-8")))]
    return sorted(found)


def _file(name: str) -> Path | None:
    first, *rest = name.split(".")
    if first != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*rest)
    tried = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((one for one in tried if one.is_file()), None)


def _imported(tree: ast.Module) -> Iterator[str]:
    typing_only = {id(node) for outer in ast.walk(tree) if _for_types(outer) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def needed(roots: Sequence[str]) -> set[str]:
    """The packages and all they need, of what is installed here; extras are not needed."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = _plain(todo.pop())
        if name in found:
            continue
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another system or another Python
        found.add(name)
        todo += [match[0] for line in asked if "extra ==" not in line and (match := NAME.match(line))]
    return found


def filtered(lock: str, names: set[str]) -> str:
    """The entries of these packages, without the remarks. Raises KeyError for one that the lock has not."""
    entries = {_plain(entry.partition("==")[0]): entry for entry in _entries(lock)}
    return "".join(entries[name] for name in sorted(names))


def _entries(lock: str) -> Iterator[str]:
    entry = ""
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")) and entry:
            yield entry
            entry = ""
        entry += "" if line.lstrip().startswith("#") else line
    yield entry


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lock_of(name: str) -> Path:
    """The recipe's lock."""
    return RECIPES / name / "requirements.lock"


if __name__ == "__main__":
    for name, one in IMAGES.items():
        lock_of(name).parent.mkdir(exist_ok=True)
        lock_of(name).write_text(filtered(WHOLE.read_text(), needed(one.roots)))

"""A module taken from its file: the folders of tests/ and bench/ are no packages (import-mode importlib)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def neighbour(path: str) -> ModuleType:
    """path: from the root, without its suffix, such as `tests/stand/test_run`. Executed anew at each call."""
    file = ROOT / f"{path}.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module

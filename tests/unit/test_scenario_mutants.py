"""Whatever stands in the files, the answer is a scenario or a BadInput that names a place; never a traceback."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotfire.errors import BadInput
from hotfire.scenario.digest import candidate_digest
from hotfire.scenario.lint import lint
from hotfire.scenario.loader import load
from hotfire.scenario.plan import plan
from tests.neighbour import neighbour

VALUES = (
    None,
    [],
    {},
    "",
    0,
    -1,
    1.5,
    True,
    "x",
    [None],
    {"a": 1},
    {"": {}},
    "0s",
    ["x", "x"],
    "poisson 0.0001/s",
    "0.0000001%",
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield node, key
        yield from places(value)


def mutate(draw: random.Random, tree: Any) -> None:
    holder, key = draw.choice(list(places(tree)))
    if draw.random() < 0.2:
        del holder[key]
    else:
        holder[key] = draw.choice(VALUES)


@pytest.mark.parametrize("seed", range(6))
def test_any_single_change_is_a_scenario_or_a_refusal_with_its_place(tmp_path: Path, seed: int) -> None:
    base, draw, refused = neighbour("tests/unit/test_scenario_loader"), random.Random(seed), 0
    for number in range(60):
        trees = [yaml.safe_load(base.SCENARIO), list(yaml.safe_load_all(base.MANIFESTS))]
        mutate(draw, trees[number % 2])
        base.write(tmp_path / str(number), yaml.safe_dump(trees[0]), all=yaml.safe_dump_all(trees[1]))
        try:
            located = load(tmp_path / str(number))
            assert all(f"{tmp_path}/" in line for line in lint(located)) and plan(located) and candidate_digest(located)
        except BadInput as bad:
            refused += 1
            assert all(line.startswith(f"{tmp_path}/") and ".yaml:" in line for line in bad.lines), bad.lines
    assert 0 < refused < 60

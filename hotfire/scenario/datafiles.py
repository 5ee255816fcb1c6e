"""The JSONL files beside a scenario: golden cases and prompts. Every broken line is named as file:line:column."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hotfire.errors import BadInput

MOST_US = 1e15  # thirty years


def read_golden(path: Path) -> list[dict[str, Any]]:
    """Cases {prompt, expect, max_tokens?}: `expect` must be found in the answer, so it may not be empty. Raises BadInput."""
    return _read(path, {"prompt": str, "expect": str}, "golden case")


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Prompts {prompt, max_tokens?}. Raises BadInput."""
    return _read(path, {"prompt": str}, "prompt")


def read_dues(path: Path) -> list[float]:
    """When requests were due, seconds from the first one, ascending: of a plan.jsonl, of any JSONL with `due_us`, or of
    the samples.jsonl.gz of an earlier run. Raises BadInput."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            dues = sorted(_dues(path, file))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        said = getattr(error, "strerror", None) or str(error) or "cut short"
        raise BadInput(f"{path}: {said}, a plan or samples of an earlier run are expected") from None
    if not dues:
        raise BadInput(f"{path}: no arrivals in it, lines with `due_us` or the samples of a run are expected")
    return [(due - dues[0]) / 1e6 for due in dues]


def _dues(path: Path, lines: Iterable[str]) -> Iterator[float]:
    """Of samples those that count, of a plan all after its warm-up: their own warm-up is not what is replayed."""
    column, number_in = None, 0
    row: Any
    warm: Any = 0
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput(f"{path}:{number}:1: not JSON") from None
        due = None
        if isinstance(row, dict):
            if type(warm := row.get("warm_up", warm)) is not int:
                raise BadInput(f"{path}:{number}:1: warm_up is {warm!r}, a number of requests is expected")
            number_in += "due_us" in row
            due = row.get("due_us") if number_in > warm else None
        elif isinstance(row, list) and column is None:
            if not {"due", "warm"} <= {name for name in row if isinstance(name, str)}:
                raise BadInput(f"{path}:{number}:1: no names of columns, `due` and `warm` among them are expected")
            column = row.index("due"), row.index("warm"), len(row)
        elif isinstance(row, list) and column is not None:
            if len(row) != column[2]:
                raise BadInput(f"{path}:{number}:1: {len(row)} values, {column[2]} are expected")
            due = None if row[column[1]] else row[column[0]]
        if due is not None:
            yield _microseconds(due, f"{path}:{number}:1")


def _microseconds(due: object, where: str) -> float:
    if isinstance(due, bool) or not isinstance(due, int | float) or not -MOST_US < due < MOST_US:
        raise BadInput(f"{where}: due at {str(due)[:40]!r}, microseconds are expected")
    return float(due)


def _read(path: Path, texts: Mapping[str, type], what: str) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BadInput(f"{path}: {said}, a JSONL file of {what}s is expected") from None
    rows: list[dict[str, Any]] = []
    wrong: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            wrong.append(f"{path}:{number}:{error.colno}: not JSON: {error.msg}")
            continue
        except RecursionError:
            wrong.append(f"{path}:{number}:1: not JSON: too deep")
            continue
        except ValueError as error:  # a key twice
            wrong.append(f"{path}:{number}:1: {error}")
            continue
        said = list(_wrong(row, texts, what))
        wrong += [f"{path}:{number}:{_column(line, key)}: {text}" for key, text in said]
        if not said:
            rows.append(row)
    if not rows and not wrong:
        wrong = [f"{path}:1:1: empty, at least one {what} is expected"]
    if wrong:
        raise BadInput(*wrong)
    return rows


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"duplicate key {twice!r}, one of them is allowed")
    return dict(pairs)


def _wrong(row: object, texts: Mapping[str, type], what: str) -> Iterator[tuple[str, str]]:
    allowed = [*texts, "max_tokens"]
    if not isinstance(row, dict):
        yield "", f"no {what}, an object with {', '.join(texts)} is expected"
        return
    for key in row:
        if key not in allowed:
            yield key, f"unknown key {key!r}, allowed: {', '.join(allowed)}"
    for key in texts:
        value = row.get(key)
        if not isinstance(value, str) or not value.strip():
            shown = "is missing" if key not in row else "is empty" if isinstance(value, str) else f"is {value!r}"
            yield key, f"{key} {shown}, a text is expected"
        elif not _encodes(value):
            yield key, f"{key} holds half a character (a lone surrogate), a text is expected"
    tokens = row.get("max_tokens", 1)
    if type(tokens) is not int or tokens < 1:
        yield "max_tokens", f"max_tokens is {tokens!r}, a whole number of 1 or more is expected"


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _column(line: str, key: str) -> int:
    """Where a key stands in its line; 1 where it does not."""
    return line.find(json.dumps(key)) + 1 or 1


def no_go(path: Path) -> str:
    """Why this is no certificate to promote on; empty if it may be one (digest, age and SLOs are compared at open)."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{path} is not there, the verdict.json of a GO or none is expected"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error}), the verdict.json of a GO or none is expected"
    verdict = data.get("verdict") if isinstance(data, dict) else None
    return "" if verdict == "GO" else f"{path} says {verdict}, the verdict.json of a GO or none is expected"

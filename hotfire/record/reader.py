"""Reads a record back and believes nothing: line by line, type, sequence, time and hash chain."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hotfire.errors import HarnessError
from hotfire.record.events import ENTRY, GENESIS, Closed, Entry, chain_hash


class Broken(HarnessError):
    """The record does not hold. line: counted from 1; entries: what holds before it; torn: only its last line is no line."""

    def __init__(self, path: Path, line: int, why: str, entries: list[Entry], torn: bool = False) -> None:
        self.line, self.why, self.entries, self.torn = line, why, entries, torn
        super().__init__(f"{path}:{line}: {why}")


def read(path: Path) -> list[Entry]:
    """All entries of a whole record. Raises Broken at the first line that does not follow from those before it."""
    entries: list[Entry] = []
    text = path.read_bytes()
    lines = text.split(b"\n")
    rest = lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            entries.append(_entry(line, entries))
        except ValueError as error:
            raise Broken(path, number, str(error), entries) from None
    if rest:
        raise Broken(path, len(lines) + 1, f"torn: {len(rest)} bytes without an end of line", entries, torn=True)
    if not entries:
        raise Broken(path, 1, "the record is empty", entries)
    return entries


def read_as_far(path: Path) -> tuple[list[Entry], Broken | None]:
    """What holds of a record, and where and why it does not hold any further."""
    try:
        return read(path), None
    except Broken as broken:
        return broken.entries, broken


def _entry(line: bytes, before: list[Entry]) -> Entry:
    """Raises ValueError with the reason, in words."""
    try:
        raw: dict[str, Any] = json.loads(line)
        entry = ENTRY.validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"no entry of a record: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    last = before[-1] if before else None
    if last is not None and isinstance(last.event, Closed):
        raise ValueError("an entry after `closed`")
    if entry.seq != len(before):
        raise ValueError(f"sequence number {entry.seq}, {len(before)} is next")
    if entry.prev != (last.hash if last else GENESIS):
        raise ValueError(f"it follows {entry.prev[:12]}, the line before is {(last.hash if last else GENESIS)[:12]}")
    if last is not None and entry.t < last.t:
        raise ValueError(f"time goes back from {last.t} s to {entry.t} s")
    if chain_hash(raw["seq"], raw["at"], raw["t"], raw["event"], raw["prev"]) != entry.hash:
        raise ValueError("its content is not what its hash was made of")
    return entry

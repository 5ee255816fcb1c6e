"""The record's only writer: redact, chain, append. What is on disk can be extended, never rewritten unnoticed."""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hotfire.errors import HarnessError
from hotfire.record.events import (
    GENESIS,
    Anchored,
    AnyEvent,
    Changed,
    Closed,
    Concluded,
    Decided,
    Entry,
    Event,
    Planned,
    Signalled,
    Stage,
    chain_hash,
)
from hotfire.record.redactor import Redactor

EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
DURABLE = (Planned, Changed, Anchored, Signalled, Decided, Concluded, Closed)  # on disk before anything is done because of them
Clock = Callable[[], tuple[datetime, float]]


def clock() -> tuple[datetime, float]:
    """(wall time in UTC, seconds on the monotonic clock)."""
    return datetime.now(UTC), time.monotonic()


class Recorder:
    """Appends events to a new file at `path`. Thread-safe; every line is flushed, stage ends and decisions are synced.

    after: what the process that began this record has written, for who goes on with it when that one is dead; a torn last
    line goes. Without it, raises HarnessError when the file exists already: a run has a record of its own.
    """

    def __init__(self, path: Path, redactor: Redactor, clock: Clock = clock, after: Sequence[Entry] = ()) -> None:
        self.path, self.redactor = path, redactor
        self.entries = list(after)  # what was written, as a reader would read it
        self.head = self.entries[-1].hash if after else GENESIS
        self._clock, self._began = clock, clock()[1] - (self.entries[-1].t if after else 0.0)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Entry], object]] = []
        try:
            self._file = path.open("r+b" if after else "xb")
        except FileExistsError:
            raise HarnessError(f"{path} exists: a run never continues the record of another") from None
        if after:
            self._file.truncate(path.read_bytes().rfind(b"\n") + 1)
            self._file.seek(0, os.SEEK_END)

    def listen(self, listener: Callable[[Entry], object]) -> None:
        """Call this with every entry once it is written, in order (live output)."""
        self._listeners.append(listener)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._file.closed

    def abandon(self) -> None:
        """Let go of the file without `closed`: what the run was about to say will never be known. Idempotent."""
        self._file.close()

    def emit(self, event: Event) -> Entry:
        """Write one event. Raises HarnessError after `closed`, or when redaction would change what the event means."""
        with self._lock:
            if self._file.closed:
                raise HarnessError(f"{getattr(event, 'type', event)} came after the record was closed")
            self.redactor.seal()
            entry = self._entry(event)
            line = json.dumps(entry, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            written = Entry.model_validate(entry)
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            if isinstance(event, DURABLE) or (isinstance(event, Stage) and event.phase == "ended"):
                os.fsync(self._file.fileno())
            self.head = written.hash
            self.entries.append(written)
            if isinstance(event, Closed):
                self._file.close()
            for listener in self._listeners:
                listener(written)
        return written

    def _entry(self, event: Event) -> dict[str, Any]:
        now, monotonic = self._clock()
        at = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        t = round(max(monotonic - self._began, self.entries[-1].t if self.entries else 0.0), 6)
        body = event.model_dump(mode="json", fallback=_plain)
        body = {"type": body.pop("type"), **self.redactor.value(_finite(body))}
        try:
            EVENT.validate_python(body)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise HarnessError(
                f"the {body['type']} event has a wrong {where}: either it was built wrongly, or a secret's value is a word "
                f"that hotfire itself uses there"
            ) from None
        seq = len(self.entries)
        return {
            "seq": seq, "at": at, "t": t, "event": body, "prev": self.head,
            "hash": chain_hash(seq, at, t, body, self.head),
        }  # fmt: skip


def _plain(value: Any) -> Any:
    """What pydantic cannot write: array scalars by their value, anything else in words."""
    return value.item() if hasattr(value, "item") else str(value)


def _finite(value: Any) -> Any:
    """Infinities as the texts inf, -inf, nan (JSON has none); strings as valid UTF-8."""
    if isinstance(value, dict):
        return {_finite(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

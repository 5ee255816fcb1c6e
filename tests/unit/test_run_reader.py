"""A run goes on, and its way back with it, where nobody reads what it says any more."""

import os
from pathlib import Path

import pytest

from hotfire.plugin.session import _terminal_line
from hotfire.record.events import Told
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder


def test_a_reader_that_went_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `hotfire run s.yaml | head`."""
    reads, writes = os.pipe()
    monkeypatch.setattr(os, "dup", lambda _: writes)
    write = _terminal_line()
    recorder = Recorder(tmp_path / "record.jsonl", Redactor())
    recorder.listen(lambda entry: write(entry.event.line))  # type: ignore[union-attr]
    recorder.emit(Told(line="heard"))
    assert os.read(reads, 100).endswith(b"heard\n")
    os.close(reads)
    recorder.emit(Told(line="not heard"))
    assert len(recorder.entries) == 2
    os.close(writes)
    recorder._file.close()

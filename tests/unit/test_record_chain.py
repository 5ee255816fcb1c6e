"""The record: redacted before it is written, chained, closed; whoever reads it is told precisely what does not hold."""

import base64
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from hotfire.errors import BadInput, HarnessError
from hotfire.record.events import Closed, Judged, Seen, Told
from hotfire.record.reader import Broken, read, read_as_far
from hotfire.record.redactor import Redactor
from hotfire.record.writer import Recorder
from hotfire.words import Outcome

SECRET = "s3cr+t/Zw==äö"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    found = Recorder(tmp_path / "record.jsonl", Redactor({"hf-token/token": SECRET}))
    yield found
    found.abandon()


def written(recorder: Recorder, lines: int = 4) -> list[bytes]:
    for number in range(lines):
        recorder.emit(Told(line=f"line {number}"))
    recorder.emit(Closed())
    return recorder.path.read_bytes().splitlines(keepends=True)


def broken(path: Path, lines: list[bytes]) -> Broken:
    path.write_bytes(b"".join(lines))
    with pytest.raises(Broken) as caught:
        read(path)
    return caught.value


def test_what_was_written_is_read_back_whole(recorder: Recorder) -> None:
    written(recorder)
    assert read(recorder.path) == recorder.entries and recorder.entries[-1].hash == recorder.head


def test_nothing_is_written_after_closed(recorder: Recorder) -> None:
    written(recorder)
    with pytest.raises(HarnessError, match="after the record was closed"):
        recorder.emit(Told(line="late"))


def test_a_second_record_of_the_same_run_is_refused(recorder: Recorder) -> None:
    with pytest.raises(HarnessError, match="exists"):
        Recorder(recorder.path, Redactor())


def test_threads_write_whole_lines_in_one_chain(recorder: Recorder) -> None:
    threads = [threading.Thread(target=lambda: [recorder.emit(Told(line="x" * 999)) for _ in range(50)]) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    recorder.emit(Closed())
    assert len(read(recorder.path)) == 401


def test_a_torn_last_line_is_told(recorder: Recorder) -> None:
    lines = written(recorder)
    found = broken(recorder.path, [*lines[:3], lines[3][:40]])
    assert (found.line, len(found.entries)) == (4, 3) and "torn" in found.why


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
def test_a_line_that_was_taken_out_is_told(recorder: Recorder, gone: int) -> None:
    lines = written(recorder)
    assert broken(recorder.path, lines[:gone] + lines[gone + 1 :]).line == gone + 1


def test_a_word_that_was_changed_is_told(recorder: Recorder) -> None:
    lines = written(recorder)
    found = broken(recorder.path, [lines[0], lines[1].replace(b"line 1", b"line 7"), *lines[2:]])
    assert (found.line, found.why) == (2, "its content is not what its hash was made of")


def test_a_forged_line_with_a_hash_of_its_own_breaks_the_next(recorder: Recorder, tmp_path: Path) -> None:
    lines = written(recorder)
    other = Recorder(tmp_path / "other.jsonl", Redactor())
    assert broken(recorder.path, [written(other)[0], *lines[1:]]).line == 2


def test_lines_after_closed_and_an_empty_file_are_told(recorder: Recorder) -> None:
    lines = written(recorder)
    assert "after `closed`" in broken(recorder.path, [*lines, lines[-1]]).why
    assert "empty" in broken(recorder.path, []).why


def test_another_version_s_event_is_told_by_its_field(recorder: Recorder) -> None:
    lines = written(recorder)
    strange = json.dumps({**json.loads(lines[0]), "event": {"type": "told", "line": "x", "color": "red"}}).encode() + b"\n"
    assert "event.told.color" in broken(recorder.path, [strange]).why


def test_what_holds_before_the_break_is_kept(recorder: Recorder) -> None:
    lines = written(recorder)
    recorder.path.write_bytes(b"".join(lines[:2]) + b"{}\n")
    entries, found = read_as_far(recorder.path)
    assert len(entries) == 2 and found is not None and found.line == 3


FORMS = {
    "plain": SECRET,
    "inside": f"curl -H 'Authorization: {SECRET}' x",
    "json": json.dumps({"a": SECRET}),
    "url": f"https://x/?token={quote(SECRET, safe='')}",
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "basic auth": base64.b64encode(f"me:{SECRET}".encode()).decode(),
    "basic auth, one more": base64.b64encode(f"you:{SECRET}:x".encode()).decode(),
    "urlsafe": base64.urlsafe_b64encode(b"ab" + SECRET.encode()).decode(),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_a_secret_is_not_written_in_any_form(recorder: Recorder, text: str) -> None:
    recorder.emit(Judged(check="a", outcome=Outcome.FAIL, message=text, details=(text,), observed={text: [text, {"b": text}]}))
    line = recorder.path.read_text()
    assert line.count("[redacted hf-token/token]") == 5 and SECRET not in line and text not in line


def test_a_secret_number_is_not_written_as_a_number(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", Redactor({"pin": "84627159"}))
    recorder.emit(Seen(check="a", noun="pin", count=1, observed=84627159))
    recorder.abandon()
    assert "84627159" not in recorder.path.read_text()


def test_the_credentials_inside_a_docker_config_and_the_lines_of_a_key_are_known() -> None:
    auth = {"auths": {"r.example": {"username": "puller", "password": "hunter2222", "auth": "cHVsbGVyOmh1bnRlcjIyMjI="}}}
    redactor = Redactor({"regcred": json.dumps(auth), "tls": "-----BEGIN-----\nMIIEvQIBADANBgkq\n-----END-----"})
    assert redactor.names_in("said hunter2222 and MIIEvQIBADANBgkq") == {"regcred", "tls"}
    assert redactor.text("puller") == "puller"


def test_a_value_too_short_is_refused_without_being_told() -> None:
    with pytest.raises(BadInput, match="3 characters, at least 6") as caught:
        Redactor({"pin/code": "abc"})
    assert "abc" not in str(caught.value)


def test_a_value_learned_after_the_first_line_is_refused(recorder: Recorder) -> None:
    recorder.emit(Told(line="x"))
    with pytest.raises(HarnessError, match="after the record's first line"):
        recorder.redactor.add("late", "late-secret")


def test_a_secret_that_is_a_word_of_ours_is_told_and_nothing_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", Redactor({"odd": "INVALID"}))
    with pytest.raises(HarnessError, match="outcome"):
        recorder.emit(Judged(check="a", outcome=Outcome.INVALID))
    assert recorder.path.read_bytes() == b"" and recorder.emit(Told(line="on")).seq == 0
    recorder.abandon()


def test_infinities_odd_texts_and_foreign_types_are_written_as_json(recorder: Recorder) -> None:
    recorder.emit(Seen(check="a", noun="b", count=1, observed=[math.inf, "\udce4", Path("x"), {1, 2}]))
    recorder.emit(Closed())
    assert read(recorder.path)[0].event.model_dump()["observed"] == ["inf", "?", "x", [1, 2]]

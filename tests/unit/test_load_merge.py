"""What several carriers saw is put together without making any of it better than it was."""

from pathlib import Path

import pytest

from hotfire.load.samples import COLUMNS, Writer, common_silences, merge, numbered
from hotfire.load.selfcheck import ClientCheck, together

Spans = list[tuple[int, int]]


@pytest.mark.parametrize(
    ("flights", "quiets", "expected"),
    [
        ([[(0, 50)], [(0, 50)]], [[(10, 30)], [(10, 30)]], [(10, 30)]),
        ([[(0, 50)], [(0, 50)]], [[(10, 30)], [(20, 30)]], [(20, 20)]),
        ([[(0, 50)], [(0, 50)]], [[(10, 30)], []], []),
        ([[(0, 50)], []], [[(10, 30)], []], [(10, 30)]),
        ([[(0, 50)], [(0, 5), (45, 60)]], [[(10, 30)], []], [(10, 30)]),
        ([[(0, 50)], [(20, 25)]], [[(10, 30)], []], [(10, 10), (25, 15)]),
        ([[(0, 90), (5, 80)]], [[(10, 30), (10, 60)]], [(10, 60)]),
        ([[(0, 40)], [(40, 80)]], [[(10, 30)], [(40, 40)]], [(10, 70)]),
    ],
    ids=["both", "overlap", "one hears", "one alone", "one idle meanwhile", "one heard within", "told in parts", "handed on"],
)
def test_a_silence_is_common_when_nobody_heard_a_byte(flights: list[Spans], quiets: list[Spans], expected: Spans) -> None:
    assert common_silences(flights, quiets) == expected


def test_carriers_that_began_apart_are_laid_on_one_axis_and_a_request_without_a_byte_breaks_no_silence(tmp_path: Path) -> None:
    """The second began 0.9 s later; both hear nothing from 1 s to 7 s of the first one's time. A third is refused meanwhile."""
    parts = {}
    for k, (later, heard, quiet) in enumerate([(0, 0.5, (1.0, 6.0)), (900_000, 0.05, (0.1, 6.0)), (0, None, None)]):
        parts[path] = later if (path := tmp_path / f"{k}.gz") else 0
        writer = Writer(path)
        row = dict.fromkeys(COLUMNS) | {"i": k, "warm": 0, "due": 0, "took": 0, "end": 9_000_000, "err": "", "n": 0}
        row |= {"fb": round(1e6 * heard)} if heard else {"took": 4_000_000, "end": 4_000_200, "err": "connect_refused"}
        writer.add([row[name] for name in COLUMNS])
        writer.silences([(round(1e6 * quiet[0]), round(1e6 * quiet[1]))] if quiet else [])
        writer.close()
    assert merge(parts, tmp_path / "all.gz")[1] == [(1_000_000, 6_000_000)]


def test_files_are_numbered_where_there_are_several() -> None:
    assert (numbered("samples.jsonl.gz", 1, 3), numbered("carrier.log", 0, 1)) == ("samples-2.jsonl.gz", "carrier.log")


def test_one_unsound_process_is_enough_and_is_named() -> None:
    late, fine = ClientCheck(1.0, None, True), ClientCheck(1.0, None, True)
    for _ in range(100):
        late.dispatch.add(90_000)
    verdict = together([fine.verdict(), late.verdict()])
    assert not verdict["sound"] and verdict["cause"].startswith("process 2 of 2: requests were sent")
    assert verdict["figures"]["dispatch_p99_ms"] == late.verdict()["figures"]["dispatch_p99_ms"] and verdict["remedy"]

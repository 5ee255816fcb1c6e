"""What several carriers saw is put together without making any of it better than it was."""

import pytest

from hotfire.load.samples import common_silences, numbered
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


def test_files_are_numbered_where_there_are_several() -> None:
    assert (numbered("samples.jsonl.gz", 1, 3), numbered("carrier.log", 0, 1)) == ("samples-2.jsonl.gz", "carrier.log")


def test_one_unsound_process_is_enough_and_is_named() -> None:
    late, fine = ClientCheck(1.0, None, True), ClientCheck(1.0, None, True)
    for _ in range(100):
        late.dispatch.add(90_000)
    verdict = together([fine.verdict(), late.verdict()])
    assert not verdict["sound"] and verdict["cause"].startswith("process 2 of 2: requests were sent")
    assert verdict["figures"]["dispatch_p99_ms"] == late.verdict()["figures"]["dispatch_p99_ms"] and verdict["remedy"]

"""A sample that failed is infinitely late, one that was cut off is as old as it was, and a changed file is not judged."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotfire.errors import HarnessError, Unjudged
from hotfire.gates.slo import population
from hotfire.load.marks import Window
from hotfire.load.samples import BACKLOG, CANCELLED, COLUMNS, Collector, Samples, Tail, Writer, pack_gaps, read, unpack_gaps
from hotfire.report.objective import describe, judge, window
from hotfire.scenario.model import Load, Slo
from hotfire.words import Outcome, Reason


def row(i: int, due: float, ttft: float | None, e2e: float | None, err: str = "", **more: Any) -> list[Any]:
    """Times in seconds; `e2e` None is a request that never ended by itself."""
    micros = {"due": due, "took": due, "sent": due, "ft": None if ttft is None else due + ttft, "end": due + (e2e or 0)}
    base = dict.fromkeys(COLUMNS) | {name: None if at is None else round(1e6 * at) for name, at in micros.items()}
    base |= {"i": i, "warm": int(i < 0), "n": 2, "status": 200, "reused": 0, "coal": 0, "err": err, "fin": "", "by": ""}
    return list((base | {"lt": base["ft"]} | more).values())


def samples(*rows: list[Any], silences: tuple[tuple[int, int], ...] = ()) -> Samples:
    collector = Collector()
    collector.extend(rows)
    return collector.samples(silences)


def write(path: Path, *rows: list[Any]) -> str:
    writer = Writer(path)
    for one in rows:
        writer.add(one)
        writer.flush()
    return writer.close()


def test_what_was_written_is_read_in_the_order_of_the_plan(tmp_path: Path) -> None:
    digest = write(
        tmp_path / "s", row(1, 0.2, 0.05, 0.1, by="b"), row(-1, 0.0, 0.3, 0.4, by="a"), row(0, 0.1, 0.07, 0.2, by="b")
    )
    found = read(tmp_path / "s", digest)
    assert list(found.i) == [-1, 0, 1] and list(found.warm) == [1, 0, 0]
    assert found.latency("ttft") == pytest.approx([0.3, 0.07, 0.05])
    assert [found.names["by"][code] for code in found.by] == ["a", "b", "b"]


def test_a_changed_file_is_not_judged(tmp_path: Path) -> None:
    digest = write(tmp_path / "s", row(0, 0, 0.1, 0.2))
    write(tmp_path / "s", row(0, 0, 0.01, 0.02))
    with pytest.raises(Unjudged) as refused:
        read(tmp_path / "s", digest)
    assert refused.value.reason is Reason.UNANCHORED


def test_the_file_of_a_killed_writer_is_readable_up_to_its_last_flush(tmp_path: Path) -> None:
    write(tmp_path / "s", *(row(i, i, 0.1, 0.2) for i in range(50)))
    whole = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(whole[: len(whole) // 2])
    assert 10 < len(read(tmp_path / "s")) < 40


def test_a_growing_file_is_read_as_it_grows(tmp_path: Path) -> None:
    writer, tail = Writer(tmp_path / "s"), Tail(tmp_path / "s")
    assert list(tail.rows()) == []
    for i in range(3):
        writer.add(row(i, i, 0.1, 0.2))
        writer.silences([(i, 200_000)])
        writer.flush()
        assert [one[0] for one in tail.rows()] == [i]
    writer.close()
    assert tail.silences == [(0, 200_000), (1, 200_000), (2, 200_000)]


@pytest.mark.parametrize("body", [b"not gzip", b"\x1f\x8b nonsense"])
def test_another_file_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "s").write_bytes(body)
    with pytest.raises(HarnessError, match="not a samples file"):
        read(tmp_path / "s")


def test_a_failure_is_infinitely_late_whatever_it_had_shown() -> None:
    found = samples(row(0, 0, 0.1, 0.2, "reset_mid_stream", gmax=1000), row(1, 1, None, 0.0, BACKLOG))
    assert all(np.isinf(found.latency(metric)).all() for metric in ("ttft", "itl", "gap", "e2e"))
    assert found.bad("ttft", 1e9).all() and not found.unproven("ttft", 1e9).any()


def test_what_was_cut_off_is_at_least_as_late_as_it_was_old() -> None:
    found = samples(row(0, 0, None, 3.0, CANCELLED), row(1, 0, 0.1, 3.0, CANCELLED))
    assert list(found.latency("e2e")) == [3.0, 3.0]
    assert list(found.bad("ttft", 5.0)) == [True, False]  # the second had its first token in time
    assert list(found.unproven("ttft", 5.0)) == [True, False]
    assert not found.unproven("ttft", 2.0).any() and list(found.bad("ttft", 2.0)) == [True, False]
    assert found.unproven("errors", 0).all()


def test_one_token_has_no_gap() -> None:
    found = samples(row(0, 0, 0.1, 0.5, gmax=90_000, g99=40_000), row(1, 1, 0.1, 0.1, n=1))
    assert list(found.latency("gap")) == [0.09, 0.0] and list(found.latency("itl")) == [0.04, 0.0]


@pytest.mark.parametrize("metric", ["ttft", "itl", "gap", "e2e"])
def test_what_is_drawn_of_a_request_is_what_its_gate_judges(metric: str) -> None:
    given: dict[str, Any] = {"n": 9, "fb": 100_000, "gmax": 90_000, "g99": 40_000}
    found = samples(*(row(i, i, 0.1 * i, 0.2 * i, "" if i % 3 else "dns", **given) for i in range(1, 9)))
    assert list(population(window(found, 9, 9.0), metric, 1.0).latency) == pytest.approx(list(found.latency(metric)))


def test_a_million_requests_are_judged_without_a_million_names_of_errors() -> None:
    found = samples(row(0, 0, 0.1, 0.2), row(1, 1, None, 1.0, "reset_mid_stream"), row(2, 2, None, 1.0, CANCELLED))
    kept = window(found, 3, 9.0)
    assert list(kept.failed) == [False, True, False] and list(kept.unanswered) == [False, False, True]
    assert kept.error.itemsize <= 4


@pytest.mark.parametrize(("metric", "outcome"), [("itl", Outcome.PASS), ("gap", Outcome.FAIL)])
def test_one_long_gap_in_each_answer_is_seen_by_the_gate_on_the_largest(metric: str, outcome: Outcome) -> None:
    slo, load = Slo.model_validate({"metric": metric, "p80": "< 50ms"}), Load.model_validate({"arrivals": "spaced 1s"})
    found = samples(*(row(i, i, 0.1, 0.5, n=200, fb=1, gmax=90_000, g99=20_000) for i in range(60)))
    gate = describe(slo, load, requests=60, until=61.0, required_gates=1, windows=1)
    assert judge(found, gate, look=1, last_look=True).outcome is outcome


def test_an_unknown_metric_is_our_own_mistake() -> None:
    with pytest.raises(HarnessError):
        samples(row(0, 0, 0.1, 0.2)).latency("p99")


def test_a_look_counts_from_the_first_that_counts_even_when_that_is_missing() -> None:
    found = samples(*(row(i, i, 0.1, 0.2) for i in (-2, -1, 1, 2, 3)))
    assert list(found.counted().i) == [1, 2, 3] and list(found.counted(2).i) == [1]
    assert found.missing(4) == [0] and found.missing(6) == [0, 4, 5]
    assert found.unbroken() == 0 and found.where(found.i < 0).unbroken() == 0


def test_the_longest_silence_is_the_longest_in_the_window() -> None:
    found = samples(silences=((1_000_000, 2_000_000), (5_000_000, 4_000_000)))
    assert found.longest_silence() == (4.0, 5.0)
    assert found.longest_silence(until=4.0) == (2.0, 1.0)
    assert found.longest_silence(since=6.0) == (3.0, 6.0) and found.longest_silence(since=9.0)[0] == 0.0


def test_errors_are_counted_by_class() -> None:
    found = samples(row(0, 0, 0.1, 0.2), row(1, 1, None, 1.0, "dns"), row(2, 2, None, 1.0, "dns"), row(3, 3, None, 1.0, "tls"))
    assert found.errors() == {"dns": 2, "tls": 1}


def test_gaps_survive_their_packing() -> None:
    rng = random.Random(1)
    gaps = [rng.choice((0, 1, 127, 128, 20_000, rng.randrange(1 << 40))) for _ in range(500)]
    assert unpack_gaps(pack_gaps(gaps)) == gaps


def test_a_window_asks_only_for_those_due_in_it() -> None:
    found = samples(
        row(0, 1.0, 0.1, 0.2), row(1, 5.0, None, 0.3, "dns"), row(2, 6.0, 0.5, 0.9, reused=1), row(3, 7.0, 0.1, 0.2)
    )
    after = Window(found, 5.0, 100.0)
    assert (len(after), after.failed, after.error_share()) == (3, 1, pytest.approx(1 / 3))
    assert after.first_success() == pytest.approx(2.1) and after.first_success(fresh=False) == pytest.approx(1.5)
    assert Window(found, 50.0, 100.0).first_success() is None
    with pytest.raises(Unjudged):
        Window(found, 50.0, 100.0).error_share()


def test_no_rows_are_no_samples() -> None:
    found = samples()
    assert len(found) == 0 and found.latency("ttft").shape == (0,) and math.isnan(found.longest_silence()[1])

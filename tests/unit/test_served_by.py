"""Who served a load is told with what it rests on."""

from pathlib import Path

import pytest

from hotfire.load.samples import COLUMNS, Writer, read
from hotfire.plugin.nouns.served import figures, growth, headers_in
from hotfire.record.events import Loaded
from hotfire.report.certificate import _served
from hotfire.runtimes.counters import Series, total
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_load_samples")

METRICS = """# TYPE vllm:request_success_total counter
vllm:request_success_total{finished_reason="stop",model_name="m"} 61.0
vllm:request_success_total{finished_reason="length",model_name="m"} 4.0
vllm:request_success_total_created{model_name="m"} 1.7e+09
tiny_tokens_total 120
"""


@pytest.mark.parametrize(
    ("name", "count"), [("vllm:request_success_total", 65), ("vllm:request_success", 65), ("tiny_tokens_total", 120), ("x", 0)]
)
def test_a_counter_is_summed_over_its_labels(name: str, count: float) -> None:
    assert total(METRICS, Series(name)) == count


def test_a_counter_that_began_anew_grew_by_what_it_shows() -> None:
    assert (growth(10, 25), growth(10, 3)) == (15, 3)


def test_names_in_headers_are_counted_and_silence_is_not(tmp_path: Path) -> None:
    writer, row = Writer(tmp_path / "s"), [0] * len(COLUMNS)
    for index, by in enumerate(("a", "b", "a", "")):
        writer.add([index if name == "i" else by if name == "by" else "" if name in ("err", "fin") else value
                    for name, value in zip(COLUMNS, row, strict=True)])  # fmt: skip
    writer.close()
    assert headers_in(read(tmp_path / "s")) == {"a": 2, "b": 1}


def test_a_pod_whose_requests_were_cut_off_has_not_answered_them() -> None:
    rows = [base.row(i, i, 0.1, 0.2, by="a") for i in range(9)]
    found = base.samples(*rows, base.row(9, 9, 0.1, 0.2, "cancelled_at_end", by="a"))
    assert figures(found, "a") == {"failed": 0, "e2e_p95_s": float("inf")}
    assert figures(found, "a", 9) == {"failed": 0, "e2e_p95_s": pytest.approx(0.2)}


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"how": "response header x-served-by", "pods": {"a": 61, "b": 1059}},
         "served by 2 pods (response header x-served-by: 61 + 1,059)"),
        ({"how": "per-pod slices", "pods": {"a": 60, "b": 60},
          "each": {"a": {"failed": 0, "e2e_p95_s": 0.21}, "b": {"failed": 7, "e2e_p95_s": "inf"}}},
         "served by 2 pods (per-pod slices: 60 + 60), p95 210 ms to never, worst b, 7 failed"),
        ({"how": "the only pod there was", "pods": {"a": 9}}, "served by 1 pod (the only pod there was: 9)"),
        ({"how": "unknown", "pods": {}}, "served by unknown"),
        ({"how": "unknown: response header x has 900 values", "pods": {}},
         "served by unknown: response header x has 900 values"),
    ],
)  # fmt: skip
def test_the_certificate_says_what_it_rests_on(told: dict[str, object], line: str) -> None:
    assert _served(told) == line
    assert "served_by" in Loaded.model_fields

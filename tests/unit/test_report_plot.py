"""What a certificate's pictures show of samples written by hand."""

import re

from hotfire.report import plot
from tests.neighbour import neighbour

base = neighbour("tests/unit/test_load_samples")


def test_what_the_gate_did_not_judge_is_not_drawn() -> None:
    found = base.samples(*(base.row(i, i, 0.1, 0.2) for i in range(5)), base.row(5, 5.0, None, 9.0, "dns"))
    assert plot.latency_plot(found, "e2e", 1.0).count('class="failed"') == 1
    drawn = plot.latency_plot(found, "e2e", 1.0, requests=4)
    assert drawn.count('class="good"') == 4 and 'class="failed"' not in drawn
    assert ends(plot.ecdf_plot(found, "e2e", 1.0, 0.8, requests=4)) == 1.0


def test_what_was_cut_off_is_no_answer() -> None:
    found = base.samples(*(base.row(i, i, 0.1, 0.2) for i in range(3)), base.row(3, 3.0, 0.1, 0.3, "cancelled_at_end"))
    drawn = plot.latency_plot(found, "e2e", 1.0)
    assert drawn.count('class="open"') == 1 and drawn.count('class="good"') == 3 and 'class="failed"' not in drawn
    assert ends(plot.ecdf_plot(found, "e2e", 1.0, 0.8)) == 0.75


def test_an_answer_of_one_token_is_none_of_those_whose_gaps_are_drawn() -> None:
    found = base.samples(base.row(0, 0, 0.1, 0.2, gmax=90_000, g99=40_000), base.row(1, 1, 0.1, 0.1, n=1))
    assert plot.latency_plot(found, "gap", 1.0).count('class="good"') == 1


def test_each_request_stands_where_it_was_due_and_each_mark_where_it_was_made() -> None:
    rows = (base.row(0, 0, 0.1, 0.2), base.row(1, 5.0, 0.1, 1.5), base.row(2, 9.0, None, 1.0, "dns"))
    marks = [("pod back", 10.0), ("pod <gone>", 4.0)]
    drawn = plot.latency_plot(base.samples(*rows), "e2e", 1.0, marks)
    across, up = (plot.WIDTH - plot.LEFT - plot.RIGHT) / 10.0, (plot.HEIGHT - plot.TOP - plot.BOTTOM) / 2.0
    at = lambda t: f"{plot.LEFT + t * across:.1f}"  # noqa: E731
    high = lambda seconds: f"{plot.HEIGHT - plot.BOTTOM - seconds * up:.1f}"  # noqa: E731
    assert re.findall(r'<line class="mark" x1="([0-9.]+)" x2="([0-9.]+)"', drawn) == [(at(4), at(4)), (at(10), at(10))]
    assert re.findall(r'<text class="mark"[^>]*>([^<]*)<', drawn) == ["pod &lt;gone&gt;", "pod back"]
    assert re.findall(r'<line class="limit"[^>]* y1="([0-9.]+)"', drawn) == [high(1.0)] and "limit 1 s" in drawn
    dots = re.findall(r'<circle class="(\w+)" cx="([0-9.]+)" cy="([0-9.]+)"', drawn)
    assert dots == [("good", at(0), high(0.2)), ("late", at(5), high(1.5))]
    assert re.findall(r'class="failed" d="M([0-9.]+) ', drawn) == [f"{plot.LEFT + 9 * across - 2.5:.1f}"]


def ends(drawn: str) -> float:
    """The share at which a distribution ends."""
    height = float(re.findall(r"V([0-9.]+)", drawn.split('class="ecdf"')[1])[-1])
    return round((plot.HEIGHT - plot.BOTTOM - height) / (plot.HEIGHT - plot.TOP - plot.BOTTOM), 2)

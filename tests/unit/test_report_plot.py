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


def ends(drawn: str) -> float:
    """The share at which a distribution ends."""
    height = float(re.findall(r"V([0-9.]+)", drawn.split('class="ecdf"')[1])[-1])
    return round((plot.HEIGHT - plot.BOTTOM - height) / (plot.HEIGHT - plot.TOP - plot.BOTTOM), 2)

"""The certificate says what the record says, in a page that loads nothing, whatever is in it."""

import html
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from hotfire.load import samples
from hotfire.record.events import Armed, Event, Flowed, Gated, Restored, Served
from hotfire.report import live, objective, plot, write_all
from hotfire.report.rows import ROWS
from hotfire.words import Verdict
from tests.recorded_run import RUNS, Run, said, write_samples


@pytest.mark.parametrize("name", RUNS)
def test_the_certificate_holds_all_rows_and_the_plain_facts(made: dict[str, Path], name: str) -> None:
    page = (made[name] / "certificate.html").read_text()
    assert all(row in page for row in ROWS) and len(ROWS) == 19
    for fact in (
        '<dt>accelerators</dt><dd class="strong" title="simulated">simulated</dd>',
        "in-process, not armed",
        "certified by",
        '<dt>users</dt><dd class="strong" title="none">none</dd>',
    ):
        assert fact in page
    assert f'<div class="word">{said(made[name])["verdict"].replace("_", " ")}</div>' in page


def test_every_report_says_who_was_served_while_the_way_back_was_gone(made: dict[str, Path]) -> None:
    line = "3 of 24 questions failed, at most 1.6 s without an answer; fewest ready endpoints: llama 1"
    page = (made["no-go-slow"] / "certificate.html").read_text()
    assert f">{line}</dd>" in page and said(made["no-go-slow"])["restored"]["served"]["ready"] == {"llama": 1}
    event = Restored(restored_s=6.2, settled_s=11.9, served=Served(asked=24, failed=3, longest_s=1.62, ready={"llama": 1}))
    assert live.lines(event) == ["restored after 6.2 s, settled after 11.9 s", f"meanwhile {line}"]


def test_the_certificate_says_what_of_a_load_is_not_counted(made: dict[str, Path]) -> None:
    assert "its first 2 requests are warm-up and not counted" in (made["no-go-slow"] / "certificate.html").read_text()


def test_the_certificate_says_armed_only_of_a_watchdog_that_was_proven_alive(tmp_path: Path) -> None:
    class Watched(Run):
        def before(self) -> Iterable[Event]:
            opened, *rest = super().before()
            yield opened.model_copy(update={"way_back": "watchdog w-1, image sha256:1"})
            yield Armed(pod="w-1-x")
            yield from rest

    Watched(tmp_path).write()
    assert ">armed: watchdog w-1, image sha256:1</dd>" in (tmp_path / "certificate.html").read_text()
    assert said(tmp_path)["way_back"] == "armed: watchdog w-1, image sha256:1"


def test_a_way_back_that_is_the_owners_is_called_so_and_not_restored(tmp_path: Path) -> None:
    class Theirs(Run):
        def before(self) -> Iterable[Event]:
            opened, *rest = super().before()
            yield opened.model_copy(
                update={"way_back": "the owner's (Application argocd/llama)", "owner": "Application argocd/llama"}
            )
            yield from rest

    assert Theirs(tmp_path, slow=8.0).write() is Verdict.INCONCLUSIVE
    page = html.unescape((tmp_path / "certificate.html").read_text())
    assert "hotfire restored nothing: the way back is the owner's, Application argocd/llama must roll back." in page
    assert ">the owner's (Application argocd/llama)</dd>" in page and "is back" not in page


@pytest.mark.parametrize("name", RUNS)
def test_the_certificate_runs_and_loads_nothing(made: dict[str, Path], name: str) -> None:
    page = (made[name] / "certificate.html").read_text()
    assert not re.search(r"<script|<img|<link|<iframe|src=|url\(|@import|onload", page) and "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_what_does_not_fit_is_counted(made: dict[str, Path]) -> None:
    page = (made["many-faults"] / "certificate.html").read_text()
    assert "19 more in verdict.json, none worse than these" in page and len(said(made["many-faults"])["faults"]) == 24


def test_many_requests_are_thinned_and_the_slowest_stays(made: dict[str, Path]) -> None:
    plot = (made["many-faults"] / "certificate.html").read_text().split("<svg")[1]
    assert 200 < plot.count("<circle") <= 600


@pytest.mark.parametrize(("requests", "fails"), [(30, False), (30, True), (3000, False)])
def test_the_distribution_is_that_of_the_samples_and_never_counts_a_failure(tmp_path: Path, requests: int, fails: bool) -> None:
    write_samples(tmp_path / "s.gz", requests, 1.0, fails)
    found = samples.read(tmp_path / "s.gz").counted()
    drawn = plot.ecdf_plot(found, "e2e", 2.0, 0.8, height=132)
    heights = [float(y) for y in re.findall(r"V([0-9.]+)", drawn.split('class="ecdf"')[1])]
    answered = 1 - (found.is_error().sum() / requests)
    assert heights == sorted(heights, reverse=True) and len(heights) == min(requests - int(found.is_error().sum()), 200)
    assert heights[-1] == pytest.approx(132 - 18 - 100 * answered, abs=0.06)
    middle = float(re.findall(r"H([0-9.]+)V", drawn.split('class="ecdf"')[1])[len(heights) // 2])
    half = sorted(found.latency("e2e"))[round(len(heights) // 2 * (requests * answered - 1) / max(len(heights) - 1, 1))]
    limit = float(re.findall(r'<line class="limit" x1="([0-9.]+)"', drawn)[0])
    assert (middle - 46) / (limit - 46) == pytest.approx(half / 2.0, rel=0.05)


def test_a_plot_without_its_samples_says_so(tmp_path: Path) -> None:
    Run(tmp_path).write()
    (tmp_path / "load/objectives/samples.jsonl.gz").write_bytes(b"")
    write_all(tmp_path)
    assert "no picture: samples.jsonl.gz was changed" in (tmp_path / "certificate.html").read_text()


def test_the_certificate_says_what_dependent_requests_are_worth(tmp_path: Path) -> None:
    class Tied(Run):
        def gated(self, param: str) -> Gated:
            event = super().gated(param)
            return event.model_copy(update={"judgement": {**event.judgement, "tau": 3.7, "effective": 8.1}})

    Tied(tmp_path / "tied").write()
    Run(tmp_path / "free").write()
    tied, free = ((tmp_path / name / "certificate.html").read_text() for name in ("tied", "free"))
    assert "objectives to deployment/llama: spaced 1s" in free
    assert "autocorrelation time 3.7 (in requests): 30 are worth 8 independent ones" in tied
    assert "autocorrelation time 1 (in requests): 30 are worth 30 independent ones" in free


def test_a_load_above_capacity_is_flagged_in_every_report(tmp_path: Path) -> None:
    class Growing(Run):
        def flowed(self) -> Flowed:
            event = super().flowed()
            return event.model_copy(update={"flow": event.flow | {"saturated": True, "confirmed": True}})

    Growing(tmp_path).write()
    words = f"SATURATED: {objective.SATURATED}"
    event = Flowed(load="objectives", look=1, requests=9, until=9.0, flow=said(tmp_path)["flows"][0]["flow"])
    assert words in live.lines(event)[0] and words in (tmp_path / "certificate.html").read_text()

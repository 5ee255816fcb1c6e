"""How the demo ends, whatever its acts do; one of them is played in tests/stand/test_demo.py."""

from pathlib import Path

import pytest

from hotfire import demo
from hotfire.stand.embedded.lifecycle import Running


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the demo says, on no stand; the second of its acts did not end as it must and left no certificate."""
    lines: list[str] = []
    left = {"smollm-sound": Path("reports/a"), "smollm-slow": None, "smollm-oom": Path("reports/b")}
    monkeypatch.setattr(demo, "up", lambda stand, **_: Running(stand))
    monkeypatch.setattr(demo, "play", lambda _, names, *__: [demo.Played(bool(left[name]), left[name]) for name in names])
    monkeypatch.setattr(demo, "down", lambda *_, say: say("stand demo is down"))
    return lines


def test_the_demo_ends_with_where_the_certificates_and_the_allure_results_lie(said: list[str], tmp_path: Path) -> None:
    assert demo.demo(keep=False, reports=tmp_path, echo=said.append) == 1
    down, tally, *paths = "\n".join(said).splitlines()
    assert down == "stand demo is down" and tally.startswith("2 of 3 acts ended as they must")
    assert paths == [
        "certificate: reports/a/certificate.html", "Allure results: reports/a/allure-results",
        "certificate: reports/b/certificate.html", "Allure results: reports/b/allure-results",
    ]  # fmt: skip


def test_one_act_alone_is_all_that_counts(said: list[str], tmp_path: Path) -> None:
    assert demo.demo(keep=True, reports=tmp_path, echo=said.append, only="smollm-oom") == 0
    assert said[1].startswith("1 of 1 acts") and said[0].startswith("the stand stays") and "reports/b/" in said[2]

"""Several processes share one plan: one set of samples, one client check, and no process lost in silence."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hotfire.errors import Unjudged
from hotfire.load.plan import Plan
from hotfire.load.run import Carrier, LoadRun
from hotfire.load.samples import FILE, numbered, read
from hotfire.load.target import Target
from hotfire.load.wire import Message, Process
from hotfire.plugin.nouns.served import figures, headers_in
from hotfire.words import Reason

FAST = ("--ttft", "4", "--itl", "2")


def test_each_request_is_sent_once_and_all_are_one_set(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server, plan = truthful(*FAST), planned("poisson 200/s", 200, 400, warm_up=7)
    with LoadRun.start(plan, Target(server.url, "chat", "m", slots=200, scale_s=5.0), tmp_path / "out", processes=3) as load:
        assert len(load.wait_look(1)) == 200 and load.extend() == 2
        window, ended = load.wait_look(2), load.stop()
    found = read(ended.samples, ended.digest)
    assert sorted(found.i) == list(range(-7, 400)) and len(server.truth()) == ended.sent == ended.rows == 407
    assert [round(1e6 * due) for due in window.due] == [item.due_us for item in plan.items()][7:]
    assert ended.client["sound"] and ended.client["processes"] == 3, ended.client["cause"]


@pytest.mark.parametrize("processes", [1, 2])
def test_pods_are_asked_in_turn_and_one_that_is_not_there_is_seen(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path, processes: int
) -> None:
    fast, slow = truthful(*FAST), truthful("--ttft", "60", "--itl", "2")
    places = [f"{name}={url.removeprefix('http://')}" for name, url in (("a", fast.url), ("b", slow.url), ("c", "127.0.0.1:1"))]
    target = Target("http://nowhere.invalid", "chat", "m", slots=200, scale_s=5.0, pods=tuple(places))
    with LoadRun.start(planned("constant 100/s", 90), target, tmp_path / "out", processes=processes) as load:
        load.wait_look(1)
        found = read(load.stop().samples)
    assert headers_in(found) == {"a": 30, "b": 30, "c": 30} and found.errors() == {"connect_refused": 30}
    each = {name: figures(found, name) for name in "abc"}
    assert [one["failed"] for one in each.values()] == [0, 0, 30] and each["c"]["e2e_p95_s"] == float("inf")
    assert each["a"]["e2e_p95_s"] < 0.06 < each["b"]["e2e_p95_s"] and len(fast.truth()) == len(slow.truth()) == 30


def test_they_send_at_their_common_times(truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path) -> None:
    server, plan = truthful(*FAST), planned("constant 100/s", 100, max_tokens=1)
    with LoadRun.start(plan, Target(server.url, "chat", "m"), tmp_path / "out", processes=2) as load:
        load.wait_look(1)
        t0 = load.t0
        load.stop()
    came = sorted(at / 1e9 - t0 for at, _ in server.truth().values())
    late = sorted(abs(at - k / 100) for k, at in enumerate(came))
    assert len(came) == 100 and late[90] < 0.1  # a machine at work may be late now and then


class Far(Process):
    """A carrier of another machine, whose CLOCK_MONOTONIC differs by `shift_ns` and whose lines take `way_s` longer."""

    here, shift_ns, way_s = False, 0, 0.0

    def tell(self, message: Mapping[str, Any]) -> None:
        shifted = {"begin": [at - self.shift_ns for at in message["begin"]]} if "begin" in message else {}
        super().tell({**message, **shifted})

    def lines(self) -> Iterator[Message]:
        for line in super().lines():
            threading.Event().wait(self.way_s if "pong" in line else 0)
            yield line | {name: line[name] + self.shift_ns for name in ("pong", "started") if name in line}


def far(plan: Plan, target: Target, out: Path, *shifts_s: float, way_s: float = 0.0) -> LoadRun:
    carriers = []
    out.mkdir()
    for k, shift in enumerate(shifts_s):
        wire = Far(target.options() | {"plan": plan.path, "digest": plan.digest, "out": out}, [], out / f"{k}.log")
        wire.shift_ns, wire.way_s = round(1e9 * shift), way_s
        carriers.append(Carrier(wire, out / numbered(FILE, k, len(shifts_s))))
    return LoadRun.follow(plan, target, out, carriers)


@pytest.mark.parametrize("shifts_s", [(1e6,), (-1e6,), (1e6, -1e6)], ids=["ahead", "behind", "one of each"])
def test_marks_are_right_whatever_the_clock_of_the_carriers_machine_shows(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path, shifts_s: tuple[float, ...]
) -> None:
    server, plan = truthful(*FAST), planned("constant 50/s", 100, max_tokens=1)
    with far(plan, Target(server.url, "chat", "m"), tmp_path / "out", *shifts_s) as load:
        back = load.wait_success(load.mark("asked"), 10.0, fresh=False)
        load.wait_look(1)
        t0, asked, ended = load.t0, load.since(load.marks[0]), load.stop()
    assert back is not None and back < 1.0 and 0 < len(asked) <= 100
    came = sorted(at / 1e9 - t0 for at, _ in server.truth().values())
    late = sorted(abs(at - k / 50) for k, at in enumerate(came))
    assert len(came) == 100 and late[90] < 0.1
    assert 0 < ended.client["clock_unsure_ms"] < 500


def test_a_clock_that_cannot_be_known_makes_the_load_the_clients(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotfire.load.run.PINGS", 1)
    server = truthful(*FAST)
    with pytest.raises(Unjudged, match=r"clock is known to 0\.6 s only, 0\.5 s is the bound") as refused:
        far(planned("constant 50/s", 10), Target(server.url, "chat", "m"), tmp_path / "out", 0.0, way_s=1.2)
    assert refused.value.reason is Reason.CLIENT and not server.truth()


def test_a_freeze_is_one_silence_of_all(truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path) -> None:
    server = truthful("--ttft", "5", "--freeze", "0.5:1.5")
    target = Target(server.url, "chat", "m", slots=400, scale_s=5.0)
    with LoadRun.start(planned("constant 100/s", 300, max_tokens=1), target, tmp_path / "out", processes=2) as load:
        load.wait_look(1)
        ended, live = load.stop(), load.samples()
    assert read(ended.samples, ended.digest).longest_silence()[0] == pytest.approx(1.5, abs=0.2)
    assert live.longest_silence() == read(ended.samples).longest_silence()


def test_one_that_dies_makes_the_load_the_clients(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    target = Target(truthful(*FAST).url, "chat", "m")
    with LoadRun.start(planned("constant 50/s", 5000), target, tmp_path / "out", processes=3) as load:
        os.kill(load.pids[1], signal.SIGKILL)
        with pytest.raises(Unjudged, match="carrier 2 of 3 ended with exit code -9") as lost:
            load.wait_look(1)
    assert lost.value.reason is Reason.CLIENT and "its part of the plan was not carried" in lost.value.details
    assert not load.alive

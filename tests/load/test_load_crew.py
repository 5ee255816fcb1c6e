"""Workers on locust's own distributed mode, here as processes: their master relays, and their samples are one set."""

import base64
import os
import signal
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotfire.errors import Unjudged
from hotfire.load.plan import Plan
from hotfire.load.run import Carrier, LoadRun
from hotfire.load.samples import FILE, numbered, read
from hotfire.load.target import Target
from hotfire.load.wire import Process
from hotfire.words import Reason

FAST = ("--ttft", "4", "--itl", "2")


class Crew:
    """A master and its workers as a Job's pods have them: the plan comes by the master's input."""

    def __init__(self, plan: Plan, target: Target, out: Path, workers: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        out.mkdir()
        options = target.options() | {"plan": "-", "port": port}
        self.master = Process(options | {"out": out / "m", "workers": workers}, [], out / "master.log")
        self.workers = [
            Process(options | {"out": out / f"w{k}", "master": "127.0.0.1"}, ["--calibrate"], out / f"w{k}.log")
            for k in range(workers)
        ]
        packed = base64.b64encode(zlib.compress(plan.path.read_bytes())).decode()
        self.master.tell({"plan": packed, "digest": plan.digest, "ca": ""})
        self.carriers = [Carrier(self.master, out / numbered(FILE, k, workers)) for k in range(workers)]


@pytest.fixture
def crew(planned: Callable[..., Plan], tmp_path: Path) -> Iterator[Callable[..., tuple[LoadRun, Crew]]]:
    made: list[Crew] = []

    def start(url: str, arrivals: str, requests: int, workers: int) -> tuple[LoadRun, Crew]:
        plan, target = planned(arrivals, requests), Target(url, "chat", "m", slots=200, scale_s=5.0)
        made.append(Crew(plan, target, tmp_path / "out", workers))
        return LoadRun.follow(plan, target, tmp_path / "out", made[-1].carriers, calibrate=True), made[-1]

    yield start
    for one in made:
        for process in (one.master, *one.workers):
            process.kill()
            process.close()
        assert not [line for worker in one.workers for line in worker.lines()]  # they speak by their master alone


def test_workers_carry_one_plan_as_one_set(truthful: Callable[..., Any], crew: Callable[..., Any], tmp_path: Path) -> None:
    server = truthful(*FAST)
    load, _ = crew(server.url, "poisson 100/s", 200, 2)
    with load:
        assert len(load.wait_look(1)) == 200
        ended = load.stop()
    found = read(ended.samples, ended.digest)
    assert sorted(found.i) == list(range(200)) and len(server.truth()) == ended.sent == 200
    assert ended.client["sound"] and ended.client["processes"] == 2, ended.client["cause"]
    assert ended.client["calibration"]["cause"] == "" and found.errors() == {}


def test_a_worker_that_dies_makes_the_load_the_clients(truthful: Callable[..., Any], crew: Callable[..., Any]) -> None:
    load, made = crew(truthful(*FAST).url, "constant 50/s", 5000, 2)
    with load:
        os.kill(made.workers[0].pid, signal.SIGKILL)
        with pytest.raises(Unjudged, match=r"carrier [12] of 2 ended with its pod's silence") as lost:
            load.wait_look(1)
    assert lost.value.reason is Reason.CLIENT


def test_workers_end_when_their_master_does(truthful: Callable[..., Any], crew: Callable[..., Any]) -> None:
    load, made = crew(truthful(*FAST).url, "constant 50/s", 5000, 2)
    load.kill()
    assert all(worker.ending(15).startswith("exit code 70") for worker in made.workers)

"""The load says what its users would have felt: open loop, from the intended start, against a server that logs the truth."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotfire.errors import Unjudged
from hotfire.gates.guard import checkpoint
from hotfire.gates.statistics import percentile
from hotfire.load.plan import Plan
from hotfire.load.run import LoadRun
from hotfire.load.samples import Samples, read
from hotfire.load.target import Target
from hotfire.report import objective
from hotfire.words import Outcome, Reason

FAST = ("--ttft", "4", "--itl", "2")


def target(url: str, **options: Any) -> Target:
    return Target(url, "chat", "m", **{"timeout_s": 10.0, "slots": 400, "scale_s": 5.0, **options})


def test_a_freeze_shows_in_the_percentiles_and_not_in_the_client(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "5", "--freeze", "1:1.5")
    with LoadRun.start(planned("constant 100/s", 500, max_tokens=1), target(server.url), tmp_path / "out") as load:
        window, ended = load.wait_look(1), load.stop()
    assert percentile(window.latency("e2e"), 0.95) > 0.9  # a closed loop shows 10 ms (facts: load 2.4)
    assert window.longest_silence()[0] == pytest.approx(1.5, abs=0.2)
    assert ended.client["sound"], ended.client["cause"]


def test_a_rated_load_that_fails_beyond_doubt_is_ended_long_before_its_look(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    gate = {"metric": "e2e", "statistic": "p95", "limit": 0.02, "within": {}, "confidence": 0.95, "arrivals": "constant",
            "timeout_s": 10.0, "required_gates": 1, "windows": 3, "until": 60.0}  # fmt: skip

    burnt = 0

    def burning(samples: Samples) -> bool:
        nonlocal burnt
        burnt = checkpoint(samples.unbroken())
        return objective.burning(samples, gate | {"requests": burnt})

    server = truthful("--ttft", "60")
    with LoadRun.start(planned("constant 100/s", 4000, max_tokens=1), target(server.url), tmp_path / "out") as load:
        load.wait_look(1, enough=burning)
        found, ended = load.samples(), load.stop()
    assert 100 <= burnt < 400 and not found.missing(burnt) and ended.rows < 800
    judged = objective.judge(read(ended.samples, ended.digest), gate | {"requests": burnt}, look=1, last_look=True)
    assert judged.outcome is Outcome.FAIL


def test_what_it_measures_is_what_the_server_did(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "50", "--itl", "10")
    plan = planned("poisson 40/s", 80, max_tokens=20)
    with LoadRun.start(plan, target(server.url), tmp_path / "out") as load:
        window, t0 = load.wait_look(1), load.t0
        load.stop()
    truth = server.truth()
    sends = np.array([truth[f"{plan.digest[:8]}-{item.index}"][1] for item in plan.items()]) / 1e9 - t0
    assert np.median(np.abs(window.ft - sends[:, 0])) < 0.002
    assert np.median(np.abs(window.gap_max - np.diff(sends).max(axis=1))) < 0.002
    assert (window.n == 20).all()


def test_every_planned_request_arrives_and_is_accounted_for(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server, plan = truthful(*FAST), planned("bursts 50 every 200ms", 400, warm_up=50)
    with LoadRun.start(plan, target(server.url), tmp_path / "out") as load:
        load.wait_look(1)
        ended = load.stop()
    assert len(server.truth()) == ended.rows == ended.sent == 450
    assert sorted(read(ended.samples, ended.digest).i) == list(range(-50, 400))


def test_requests_beyond_the_slots_are_samples_of_infinite_latency(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "400")
    with LoadRun.start(planned("constant 50/s", 60, max_tokens=1), target(server.url, slots=5), tmp_path / "out") as load:
        window, ended = load.wait_look(1), load.stop()
    assert window.errors() == {"backlog": ended.backlog} and ended.backlog > 20
    assert np.isinf(window.latency("ttft")[window.is_error("backlog")]).all()
    assert ended.client["sound"]


def test_a_spaced_load_never_overlaps_and_keeps_its_pace(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "60", "--itl", "5")
    with LoadRun.start(planned("spaced 100ms", 12, max_tokens=12), target(server.url), tmp_path / "out") as load:
        window = load.wait_look(1)
    assert all(later >= end for end, later in zip(window.end[:-1], window.took[1:], strict=True))
    assert all(0.099 < b - a < 1.0 for a, b in pairwise(window.due))


def test_a_closed_load_keeps_its_number_in_flight(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "50", "--itl", "5")
    with LoadRun.start(planned("closed 4", 60, max_tokens=4), target(server.url), tmp_path / "out") as load:
        window = load.wait_look(1)
    open_then = [int(((window.took <= at) & (window.end > at)).sum()) for at in window.took[8:-4] + 1e-6]
    assert max(open_then) == 4 == sorted(open_then)[len(open_then) // 2]  # fewer for a moment on a machine at work
    assert (window.took - window.due).max() < 0.05


def test_a_spaced_load_waits_at_a_look_and_an_open_one_does_not(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful(*FAST)
    for arrivals, beyond in (("spaced 20ms", 0), ("constant 50/s", 5)):
        with LoadRun.start(planned(arrivals, 5, 500, max_tokens=1), target(server.url), tmp_path / arrivals[:3]) as load:
            load.wait_look(1)
            assert load.wait_success(load.mark("judging"), 0.5, fresh=False) is None or beyond
            assert (len(load.samples()) > 5) == bool(beyond)
            assert load.extend() == 2


def test_what_is_open_at_the_end_is_censored_at_its_age(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "3000")
    with LoadRun.start(planned("constant 50/s", 30), target(server.url), tmp_path / "out") as load:
        load.wait_success(load.mark("now"), 1.0)
        ended = load.stop()
    samples = read(ended.samples, ended.digest)
    assert samples.censored.all() and samples.bad("ttft", 5.0).all()
    assert samples.unproven("ttft", 5.0).all() and not samples.unproven("ttft", 0.2)[:5].any()
    assert (samples.latency("ttft") <= 2.5).all()


def test_fresh_connections_are_fresh_and_others_are_reused(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful(*FAST)
    for age, reused in ((0.0, 0), (10.0, 9)):
        with LoadRun.start(planned("spaced 20ms", 10), target(server.url, max_age_s=age), tmp_path / str(age)) as load:
            assert load.wait_look(1).reused.sum() == reused


def test_a_connection_is_replaced_at_its_age(
    scripted: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = scripted({"hello": [b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n"]})
    aged = target(server.url, max_age_s=0.1)
    with LoadRun.start(planned("spaced 20ms", 30), aged, tmp_path / "out") as load:
        window = load.wait_look(1)
    fresh, born = list[bool](), -1
    for took in (round(1e6 * at) for at in window.took):
        fresh.append(born < 0 or took - born >= 100_000)
        born = took if fresh[-1] else born
    assert [not reused for reused in window.reused] == fresh
    assert server.opened == sum(fresh) and 4 <= sum(fresh) < 20


def test_a_mark_knows_the_first_success_after_an_outage(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "5", "--freeze", "0.5:1.0")
    quick = target(server.url, timeout_s=0.3, max_age_s=0.0)
    with LoadRun.start(planned("constant 20/s", 200, max_tokens=1), quick, tmp_path / "out") as load:
        assert load.wait_success(load.mark("began"), 5.0) is not None
        while load.now() < 0.7:  # it has been frozen for 0.2 s, and is for 0.8 more
            load._wait(0.05)
        mark = load.mark("frozen")
        back = load.wait_success(mark, 5.0)
        assert back is not None and 0.5 < back < 2.0
        assert load.since(mark).errors().keys() == {"timeout_first"}
        assert load.around(mark, 0.0, 0.4).error_share() == 1 and load.around(mark, 0.5, 5.0).error_share() < 1


def test_a_starved_client_says_so_with_cause_and_remedy(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    judged = target(truthful(*FAST).url, scale_s=0.5)
    with LoadRun.start(planned("constant 100/s", 300, max_tokens=1), judged, tmp_path / "out") as load:
        for _ in range(6):  # what a CPU quota does, coarser
            os.kill(load.pids[0], signal.SIGSTOP)
            load._wait(0.3)
            os.kill(load.pids[0], signal.SIGCONT)
            load.wait_success(load.mark("running"), 0.1)
        load.wait_look(1)
        client = load.stop().client
    assert not client["sound"] and "late" in client["cause"] and client["remedy"]


PARENT = """
import sys, os
from pathlib import Path
from hotfire.load.plan import load
from hotfire.load.run import LoadRun
from hotfire.load.target import Target
run = LoadRun.start(load(Path(sys.argv[1])), Target(sys.argv[2], "chat", "m"), Path(sys.argv[3]))
run.wait_success(run.mark("began"), 5.0, fresh=False)
sys.stdout.write(f"{run.pids[0]} {'locust' in sys.modules or 'gevent' in sys.modules}\\n")
sys.stdout.flush()
run.wait_look(1)
"""


def test_the_carrier_dies_with_its_parent_and_locust_stays_out_of_it(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server, plan = truthful(*FAST), planned("constant 50/s", 5000)
    command = [sys.executable, "-c", PARENT, str(plan.path), server.url, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, imported = parent.stdout.readline().split()
        watch = os.pidfd_open(int(child))
        parent.kill()
    assert ends(watch, 2.0) and imported == "False"
    assert len(read(tmp_path / "out" / "samples.jsonl.gz")) > 0  # what it had flushed is readable


def test_sigterm_cancels_what_is_open_and_says_so(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    server = truthful("--ttft", "5000")
    with LoadRun.start(planned("constant 50/s", 500), target(server.url), tmp_path / "out") as load:
        load.wait_success(load.mark("now"), 0.5)
        os.kill(load.pids[0], signal.SIGTERM)
        with pytest.raises(Unjudged, match=r"ended with a signal after \d+ requests, before look 1") as early:
            load.wait_look(1)
        ended = load.stop()
    assert early.value.reason is Reason.CLIENT
    assert set(read(ended.samples, ended.digest).errors()) == {"cancelled_at_end"}


def ends(pidfd: int, within_s: float) -> bool:
    import select

    return bool(select.select([pidfd], [], [], within_s)[0])

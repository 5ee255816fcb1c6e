"""The carrier's process: how it starts, how it is told, how it ends, and what it leaves."""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hotfire.errors import HarnessError, Interrupted, Unjudged
from hotfire.kube.wait import forget_interrupt, interrupt
from hotfire.load import engine as engine_module
from hotfire.load.engine import BATCH, Engine
from hotfire.load.marks import Mark
from hotfire.load.plan import Plan
from hotfire.load.polling import EPOLLIN
from hotfire.load.run import LoadRun, Progress
from hotfire.load.samples import Collector, Samples, Writer, read
from hotfire.load.target import Target
from hotfire.words import Reason

FAST = ("--ttft", "4", "--itl", "2")


@pytest.fixture
def running(truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path) -> Iterator[LoadRun]:
    """A load of many requests, under way."""
    target = Target(truthful(*FAST).url, "chat", "m")
    with LoadRun.start(planned("constant 50/s", 5000), target, tmp_path / "out") as load:
        yield load


def test_a_carrier_that_dies_makes_the_load_the_clients_at_once(running: LoadRun) -> None:
    os.kill(running.pids[0], signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(Unjudged, match="exit code -9") as lost:
        running.wait_look(1)
    assert lost.value.reason is Reason.CLIENT
    assert time.monotonic() - began < 2


def test_a_wait_sees_a_signal_at_once(running: LoadRun) -> None:
    threading.Timer(0.3, interrupt).start()
    began = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            running.wait_look(1)
    finally:
        forget_interrupt()
    assert time.monotonic() - began < 1.0


def test_leaving_the_block_ends_the_carrier(running: LoadRun) -> None:
    watch = os.pidfd_open(running.pids[0])
    running.__exit__(None, None, None)
    assert select.select([watch], [], [], 2)[0]


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_is_told_once_a_second(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path, processes: int
) -> None:
    heard: list[Progress] = []
    target = Target(truthful(*FAST).url, "chat", "m")
    plan = planned("constant 50/s", 125)
    with LoadRun.start(plan, target, tmp_path / "out", processes=processes, on_tick=heard.append) as load:
        load.wait_look(1)
        load.stop()
    seconds = [round(one.t) for one in heard[:-1]]  # the last is told at the end
    assert seconds == sorted(set(seconds)) and 2 in seconds and heard[-1].planned == 125
    assert processes > 1 or (seconds == [1, 2] and heard[-1].done == 125)
    assert all(one.ttft_p50_ms is None or 2 < one.ttft_p50_ms < 100 for one in heard)


@pytest.mark.parametrize("wait", ["for a look", "for a success"])
def test_waiting_looks_at_all_samples_now_and_then_whatever_is_said(
    running: LoadRun, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    """A look costs as much as there are samples, and many workers say something every few milliseconds."""
    looks, over = list[float](), threading.Event()

    def look(*silences: Any) -> Samples:
        looks.append(time.monotonic())
        return Collector.samples(running._collector, *silences)

    def talk() -> None:
        while not over.wait(0.005):
            running._heard.put((running._wires[0], {"said": "nothing"}))

    monkeypatch.setattr(running._collector, "samples", look)
    talker = threading.Thread(target=talk)
    talker.start()
    try:
        if wait == "for a look":
            began, _ = time.monotonic(), running.wait_look(1, enough=lambda found: len(found) > 80)
        else:
            began, _ = time.monotonic(), running.wait_success(Mark("to come", 100.0), 1.5)
    finally:
        over.set()
        talker.join()
    assert 3 < len(looks) <= 5 * (time.monotonic() - began) + 3


def test_what_is_left_is_a_digest_samples_and_the_report_of_locust(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    target = Target(truthful(*FAST).url, "chat", "m")
    with LoadRun.start(planned("constant 50/s", 20), target, tmp_path / "out") as load:
        load.wait_look(1)
        ended = load.stop()
        assert load.stop() is ended
    assert len(read(ended.samples, ended.digest)) == 20
    assert "/v1/chat/completions" in (tmp_path / "out" / "locust.html").read_text()


def test_only_the_main_thread_starts_a_load(planned: Callable[..., Plan], tmp_path: Path) -> None:
    errors: list[HarnessError] = []

    def start() -> None:
        try:
            LoadRun.start(planned("constant 50/s", 5), Target("http://127.0.0.1:1", "chat", "m"), tmp_path / "out")
        except HarnessError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert errors and not (tmp_path / "out").exists()


def test_the_carrier_is_pinned_where_it_is_told(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    cpu = max(os.sched_getaffinity(0))
    with LoadRun.start(planned("constant 50/s", 500), Target(truthful().url, "chat", "m"), tmp_path / "o", cpu=cpu) as load:
        assert os.sched_getaffinity(load.pids[0]) == {cpu}


def test_without_kernel_stamps_the_time_of_the_read_stands_and_is_labelled(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    said: list[dict[str, Any]] = []
    target = Target(truthful(*FAST).url, "chat", "m")
    engine = Engine(planned("constant 50/s", 10), target, {}, Writer(tmp_path / "s"), said.append, lambda *_: None)
    engine.dialer.kernel_stamps = False
    carry_here(engine)
    assert said[0]["stamps"] == "user" and (read(tmp_path / "s").latency("ttft") < 0.2).all()


def test_an_open_load_that_had_to_stop_at_a_look_goes_on_without_a_burst(
    truthful: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    target = Target(truthful(*FAST).url, "chat", "m")
    engine = Engine(planned("constant 100/s", 10, 20, 40), target, {}, Writer(tmp_path / "s"), lambda _: None, lambda *_: None)
    carry_here(engine, go_at=(0.7, 2))
    found = read(tmp_path / "s")
    assert found.due[20] > 0.69 and found.due[39] - found.due[20] == pytest.approx(0.19, abs=0.001)
    assert (found.took - found.due).max() < 0.3


def test_only_open_requests_are_held_whatever_came_before_them(
    scripted: Callable[..., Any], planned: Callable[..., Plan], tmp_path: Path
) -> None:
    """One that hangs would otherwise hold every later one, and each sweep would walk them all."""
    held: list[tuple[int, int]] = []
    texts = ("hangs", *(f"answered {k}" for k in range(30)))
    refusal = [b"HTTP/1.1 503 Oh\r\nContent-Length: 0\r\n\r\n"]
    server = scripted(dict.fromkeys(texts, refusal) | {"hangs": [5.0]})
    engine = Engine(
        planned("constant 100/s", 31, texts=texts), Target(server.url, "chat", "m", timeout_s=1.0), {}, Writer(tmp_path / "s"),
        lambda _: None, lambda *_: held.append((len(engine.flights), engine.counts.sent - engine.counts.done)),
    )  # fmt: skip
    carry_here(engine)
    assert len(held) == 31 and read(tmp_path / "s").errors() == {"http_5xx": 30, "timeout_first": 1}
    assert all(kept == open_then for kept, open_then in held)


def test_however_much_comes_what_else_runs_in_the_process_has_its_turn(planned: Callable[..., Plan], tmp_path: Path) -> None:
    """At 1,200 streams the reading never came to its end, and the heartbeat beside it was late by 50 ms: INVALID."""

    class Flood:
        polls = 0

        def register(self, *_: int) -> None: ...

        def poll(self, *_: int) -> list[tuple[int, int]]:
            self.polls += 1
            assert self.polls < 100_000, "it reads on for ever"
            return [(-1, EPOLLIN)] * BATCH

    plan, target = planned("constant 1/s", 1), Target("http://127.0.0.1:1", "chat", "m")
    engine = Engine(plan, target, {}, Writer(tmp_path / "s"), lambda _: None, lambda *_: None)
    engine.begin()
    engine.epoll = Flood()  # type: ignore[assignment]
    engine.dialer.newest = time.time_ns() - 10**9  # what a freeze of the target let wait is not the client's delay
    assert engine.turn() and engine.epoll.polls > 1 and not engine.paced  # type: ignore[attr-defined]
    assert engine.check.reading.total == 0
    while engine.check.behind_us < 20_000:  # what it never catches up with is its own doing
        assert engine.turn()
    engine.stop(0)
    assert not engine.turn() and not engine.check.verdict()["sound"]
    engine.writer.close()


@pytest.mark.parametrize(("size", "closes", "error"), [(50, False, ""), (65536, True, "no_done")])
def test_the_kernel_tells_of_an_arrival_once_and_all_of_it_is_read(
    planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, closes: bool, error: str
) -> None:
    """An answer that takes many reads; one whose end, that of the connection, came with its last bytes."""
    monkeypatch.setattr(engine_module, "READ_SIZE", size)
    events = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n' + b"data: [DONE]\n\n" * (not closes)

    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, closes)  # the last bytes wait for the end
            sock.recv(65536)
            framing = b"" if closes else b"Content-Length: %d\r\n" % len(events)
            sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + framing + b"\r\n" + events)
            over.wait(0 if closes else 10)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        target = Target(f"http://127.0.0.1:{listener.getsockname()[1]}", "chat", "m", timeout_s=2.0)
        engine = Engine(planned("constant 1/s", 1), target, {}, Writer(tmp_path / "s"), lambda _: None, lambda *_: None)
        carry_here(engine)
    over.set()
    found = read(tmp_path / "s")
    assert list(found.errors()) == [error] * bool(error) and found.end[0] < 1.0


def carry_here(engine: Engine, go_at: tuple[float, int] | None = None) -> None:
    """Turn an engine in this process, as the carrier's greenlet does."""
    engine.begin()
    began = time.monotonic()
    with suppress(KeyboardInterrupt):
        while engine.turn():
            select.select([engine.timer.fd if engine.paced else engine.epoll.fileno()], [], [], 0.1)
            if go_at and time.monotonic() - began > go_at[0]:
                engine.go(go_at[1])
    engine.writer.close()

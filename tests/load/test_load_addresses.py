"""A name with several addresses is asked as users' clients ask it: in turn, and on to the next where one refuses."""

import _socket
import select
import socket
import time
from collections.abc import Callable
from errno import EADDRNOTAVAIL
from pathlib import Path
from typing import Any

import pytest

from hotfire.load.connection import Dialer
from hotfire.load.engine import Engine
from hotfire.load.plan import Plan
from hotfire.load.samples import Samples, Writer, read
from hotfire.load.target import Target

Address = tuple[int, tuple[Any, ...]]
EVENTS = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS
SCRIPTS = {"hello": [WHOLE]}
REFUSES: Address = (socket.AF_INET, ("127.0.0.1", 1))
REFUSES_TOO: Address = (socket.AF_INET, ("127.0.0.2", 1))
REFUSES_BY_IPV6: Address = (socket.AF_INET6, ("::1", 1, 0, 0))  # or cannot be had, where IPv6 is off
FAILS_AT_ONCE: Address = (socket.AF_INET, ("127.255.255.255", 1))  # a broadcast address has no TCP: connect says so itself
NO_FAMILY: Address = (200, ("nowhere", 1))


def at(server: Any) -> Address:
    host, port = server.url.rpartition("/")[2].split(":")
    return socket.AF_INET, (host, int(port))


def test_a_resolver_that_cannot_tell_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[Address]:
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [REFUSES]

    monkeypatch.setattr("hotfire.load.connection._look_up", look_up)
    dialer = Dialer(Target("http://a-name", "chat", "m"))
    assert asked == ["a-name"] * 2 and dialer._in_turn(0) == [REFUSES]


class Full(_socket.socket):
    """A socket of a machine whose ports towards 127.0.0.2 are all taken."""

    def connect_ex(self, address: Any) -> int:
        taken = address[0] == "127.0.0.2" and self.type & 0xF == socket.SOCK_STREAM
        return EADDRNOTAVAIL if taken else super().connect_ex(address)


@pytest.fixture
def load(planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Samples]:
    """20 requests, each on a connection of its own, to a name that has these addresses; by default they are due now."""

    def run(*addresses: Address, late_s: float = 0.0, **options: Any) -> Samples:
        found = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
        monkeypatch.setattr(_socket, "getaddrinfo", lambda *_: found)
        target = Target(
            **({"url": "http://several.invalid", "max_age_s": 0, "timeout_s": 2.0} | options), api="chat", model="m"
        )
        engine = Engine(planned("constant 200/s", 20), target, {}, Writer(tmp_path / "s"), lambda _: None, lambda *_: None)
        engine.begin(time.monotonic_ns() - round(1e9 * late_s))
        try:
            while engine.turn():
                select.select([engine.timer.fd if engine.paced else engine.epoll.fileno()], [], [], 0.1)
        finally:
            engine.writer.close()
        assert engine.counts.sent + engine.counts.backlog == engine.counts.done == 20 and not engine.table
        return read(tmp_path / "s")

    return run


@pytest.mark.parametrize("refusing", [REFUSES, REFUSES_BY_IPV6, FAILS_AT_ONCE, NO_FAMILY], ids=lambda one: str(one[1][0]))
def test_what_one_address_refuses_the_next_one_answers(
    scripted: Callable[..., Any], load: Callable[..., Samples], refusing: Address
) -> None:
    server = scripted(SCRIPTS)
    found = load(refusing, at(server), at(server))
    assert found.errors() == {} and len(server.heads) == len(set(found.i)) == 20


def test_those_of_the_first_family_share_the_connections_and_the_other_family_gets_none(
    scripted: Callable[..., Any], load: Callable[..., Samples]
) -> None:
    one, two = scripted(SCRIPTS), scripted(SCRIPTS)
    assert load(at(one), REFUSES_BY_IPV6, at(two), at(one)).errors() == {}
    assert one.opened == two.opened == len(one.heads) == len(two.heads) == 10


def test_a_kept_connection_is_used_again_whatever_the_turn(scripted: Callable[..., Any], load: Callable[..., Samples]) -> None:
    one, two = scripted(SCRIPTS), scripted(SCRIPTS)
    assert load(at(one), at(two), max_age_s=10, slots=1).errors().keys() <= {"backlog"}
    assert one.opened + two.opened == 1


@pytest.mark.parametrize("last", [REFUSES_TOO, REFUSES_BY_IPV6, NO_FAMILY], ids=lambda one: str(one[1][0]))
def test_a_request_that_all_refuse_is_refused_once(load: Callable[..., Samples], last: Address) -> None:
    found = load(REFUSES, REFUSES_TOO, last)
    assert found.errors() == {"connect_refused": 20} and len(set(found.i)) == len(found) == 20


def test_the_error_is_that_of_the_last_address(load: Callable[..., Samples]) -> None:
    errors = load(REFUSES, FAILS_AT_ONCE).errors()
    assert errors == {"connect_refused": 10, "connect_unreachable": 10}


def test_latency_counts_from_when_it_was_due_whichever_address_answers(
    scripted: Callable[..., Any], load: Callable[..., Samples]
) -> None:
    """The client begins 0.5 s late: all are due before, and the server takes 0.1 s."""
    server = scripted({"hello": [0.1, WHOLE]})
    found = load(REFUSES, at(server), late_s=0.5)
    assert found.errors() == {} and list(found.due) == pytest.approx([k / 200 for k in range(20)], abs=1e-6)
    assert list(found.latency("ttft") + found.due) == pytest.approx([0.6] * 20, abs=0.08)


def test_a_connection_that_came_about_is_not_tried_elsewhere(
    scripted: Callable[..., Any], load: Callable[..., Samples]
) -> None:
    resets, answers = scripted({"hello": [-1.0]}), scripted(SCRIPTS)
    assert load(at(resets), at(answers)).errors() == {"reset_before_first": 10}
    assert len(resets.heads) == len(answers.heads) == 10


def test_an_address_without_tls_is_not_the_fault_of_another(scripted: Callable[..., Any], load: Callable[..., Samples]) -> None:
    plain = scripted(SCRIPTS)
    assert load(at(plain), REFUSES, url="https://several.invalid").errors() == {"tls": 20}
    assert plain.opened == 20


def test_ports_that_are_all_taken_towards_one_address_are_those_of_this_machine(
    scripted: Callable[..., Any], load: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_socket, "socket", Full)
    assert load(REFUSES_TOO, at(scripted(SCRIPTS))).errors() == {}
    with pytest.raises(OSError, match="lower the rate or reuse connections"):
        load(REFUSES, REFUSES_TOO)

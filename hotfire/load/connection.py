"""One TCP connection to the target, plain or TLS, never blocking, with the kernel's stamp of what was read.

The stamp (SO_TIMESTAMPNS) is that of the last segment in a read, by CLOCK_REALTIME; it is turned to CLOCK_MONOTONIC with
the difference seen at that moment. Under TLS the same sockets carry the records, so the stamp is that of the segment that
completed one. Where the kernel gives none the time of the read stands for it.
"""

import _socket
import ssl
import struct
import time
from collections import deque
from errno import (
    EADDRNOTAVAIL,
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EINPROGRESS,
    ENETUNREACH,
    ENOBUFS,
    EPIPE,
    ETIMEDOUT,
)
from os import strerror
from typing import Any

import gevent  # type: ignore[import-untyped]

from hotfire.load.polling import EPOLLIN, EPOLLOUT
from hotfire.load.target import Target

TRIES, AGAIN_S = 4, 1.0  # times that a resolver is asked which says it cannot tell now / seconds between them
SO_TIMESTAMPNS = 35  # also the type of the control message
READ_SIZE = 65536
TIMESPEC = struct.Struct("qq").unpack
_CONNECT_ERRORS = {ECONNREFUSED: "connect_refused", ETIMEDOUT: "connect_timeout"}
_CONNECT_ERRORS |= dict.fromkeys((EHOSTUNREACH, ENETUNREACH), "connect_unreachable")
Address = tuple[int, Any]  # its family, and as a socket takes it


class Lost(Exception):
    """The connection is gone. error: the class this makes; empty when it depends on what had been read."""

    def __init__(self, error: str, text: str) -> None:
        self.error = error
        super().__init__(text)


class Dialer:
    """Opens connections to the places of one target, each looked up once, and keeps the difference of the two clocks.

    A place of several addresses is dialled as users' clients do it: each new connection begins at the next of those of the
    first one's family, and where none comes about the others follow, in the order of getaddrinfo.
    """

    def __init__(self, target: Target) -> None:
        self.target, self.newest = target, 0
        self.failure = ""
        self._addresses: list[tuple[deque[Address], list[Address]]] = []  # of each place: the first one's family, the other
        self.offset = 0
        for _, host, port in target.places:
            found: list[Address] = []
            for left in reversed(range(TRIES)):
                try:
                    found = _look_up(host, port)
                    break
                except OSError as error:
                    self.failure = f"{host}: {error.strerror}"
                    if not left or error.errno != _socket.EAI_AGAIN:
                        break
                    gevent.sleep(AGAIN_S)
            first = deque(one for one in found if one[0] == found[0][0])
            self._addresses.append((first, [one for one in found if one not in first]))
        self._context = self._tls() if target.tls else None
        self.kernel_stamps = self._stamps()
        self.anchor()

    def anchor(self) -> None:
        """Take the difference between CLOCK_REALTIME and CLOCK_MONOTONIC anew, unless something came in between."""
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        if after - before < 2_000 or not self.offset:
            self.offset = real - (before + after) // 2

    def dial(self, now: int, to: int = 0, rest: list[Address] | None = None) -> "Connection":
        """To the first address of one of the places, or of the `rest` of it, that does not fail at once.

        Raises Lost dns, or connect_* of the last one; OSError when this machine itself has no socket left for one of them,
        which is not the target's.
        """
        rest = self._in_turn(to) if rest is None else rest
        said: Lost | OSError | None = None
        while True:
            try:
                return Connection(self, self._connecting(*rest.pop(0)), now, self._context, self.target.host, to, rest)
            except (Lost, OSError) as error:  # this machine's own trouble is not hidden by another address's refusal
                said = said if isinstance(said, OSError) else error
            if not rest:
                raise said

    def _in_turn(self, to: int) -> list[Address]:
        first, other = self._addresses[to]
        if not first:
            raise Lost("dns", self.failure)
        order = [*first, *other]
        first.rotate(-1)
        return order

    def _connecting(self, family: int, address: Any) -> _socket.socket:
        sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        if self.kernel_stamps:
            sock.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        try:
            code = sock.connect_ex(address)
        except OSError as error:
            code = error.errno or ECONNREFUSED
        if code not in (0, EINPROGRESS):
            sock.close()
            if code in (EADDRNOTAVAIL, ENOBUFS):
                raise OSError(code, f"{strerror(code)}: lower the rate or reuse connections (max_age)")
            raise Lost(_CONNECT_ERRORS.get(code, "connect_failed"), strerror(code))
        return sock

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.target.ca or None)
        if self.target.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def _stamps(self) -> bool:
        sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            sock.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        except OSError:
            return False
        finally:
            sock.close()
        return True


def _look_up(host: str, port: int) -> list[Address]:
    """In the order of getaddrinfo, less those that this machine has no way to, as to ::1 where IPv6 is off: what fails there
    is not the target. All of them when there is no other. Raises OSError."""
    found = dict.fromkeys((one[0], one[4]) for one in _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM))
    return [one for one in found if _has_way(*one)] or list(found)


def _has_way(family: int, address: Any) -> bool:
    try:
        sock = _socket.socket(family, _socket.SOCK_DGRAM)  # to connect it asks for the way, and sends nothing
    except OSError:
        return False
    code = sock.connect_ex(address)
    sock.close()
    return code not in (EADDRNOTAVAIL, ENETUNREACH)


class Connection:
    """born, used: microseconds since the start of the load; to: which of the target's places; rest: the addresses of it to
    go on with, should this one refuse; flight: what it carries, None when idle.

    stamped: plain TCP with kernel stamps, so that `receive` (recvmsg) can be called straight away.
    """

    __slots__ = (
        "_dialer", "_in", "_out", "_queued", "_sock", "_tls", "_unsent", "born", "fd", "flight", "open", "receive",
        "registered", "rest", "stamped", "to", "used", "wants",
    )  # fmt: skip

    def __init__(
        self, dialer: Dialer, sock: Any, now: int, context: ssl.SSLContext | None, host: str, to: int, rest: list[Address]
    ) -> None:
        self._dialer, self._sock, self._queued, self._unsent = dialer, sock, b"", b""
        self.receive, self.fd = sock.recvmsg, sock.fileno()
        self.born = self.used = now
        self.to, self.rest = to, rest
        self.flight: Any = None
        self.open, self.registered, self.wants = False, EPOLLOUT, EPOLLOUT
        self.stamped = context is None and dialer.kernel_stamps
        self._tls = None
        if context is not None:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)

    def opened(self) -> bool:
        """Called when it can be written or, in a TLS handshake, read: whether it is ready to carry a request."""
        code = self._sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code in (0, ETIMEDOUT):
            self.rest = []  # somebody is there, or has been waited for
        if code:
            raise Lost(_CONNECT_ERRORS.get(code, "connect_failed"), strerror(code))
        if self._tls is not None and not self._shaken():
            return False
        self.open = True
        return True

    def _shaken(self) -> bool:
        while True:
            try:
                self._tls.do_handshake()  # type: ignore[union-attr]
            except ssl.SSLWantReadError:
                self._flush_tls()
                data, _ = self._receive()
                if data is None:
                    self.wants = EPOLLOUT if self._unsent else EPOLLIN
                    self.registered = self.wants
                    return False
                if not data:
                    raise Lost("tls", "the connection ended in the handshake") from None
                self._in.write(data)
            except ssl.SSLError as error:
                raise Lost("tls", error.reason or str(error)) from None
            else:
                self._flush_tls()
                return True

    def _flush_tls(self) -> None:
        self._unsent += self._out.read()
        self._write()

    def queue(self, data: bytes) -> None:
        """Bytes to send with the next push."""
        self._queued += data

    def push(self) -> bool:
        """Send what is queued; whether some of it is still unsent. Raises Lost."""
        if self._queued:
            if self._tls is None:
                self._unsent += self._queued
            else:
                self._tls.write(self._queued)
                self._unsent += self._out.read()
            self._queued = b""
        if self._unsent:
            self._write()
        return bool(self._unsent)

    def _write(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent, _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost("" if error.errno in (EPIPE, ECONNRESET) else "send_failed", strerror(error.errno or 0)) from None

    def read(self) -> tuple[bytes | None, int]:
        """(bytes, CLOCK_MONOTONIC ns): b"" at the end of the stream, None when nothing is to be read. Raises Lost."""
        data, stamp = self._receive()
        if self._tls is None or data is None:
            return data, stamp
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        plain = bytearray()
        try:
            while piece := self._tls.read(READ_SIZE):
                plain += piece
        except ssl.SSLWantReadError:
            return (bytes(plain) or None), stamp
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return bytes(plain), stamp
        except ssl.SSLError as error:
            raise Lost("tls", error.reason or str(error)) from None
        return bytes(plain), stamp

    def _receive(self) -> tuple[bytes | None, int]:
        try:
            data, extra, _, _ = self.receive(READ_SIZE, 64)
        except BlockingIOError:
            return None, 0
        except OSError as error:
            if error.errno == EAGAIN:
                return None, 0
            raise Lost("", strerror(error.errno or 0)) from None
        dialer = self._dialer
        if extra:
            seconds, nanos = TIMESPEC(extra[0][2])
            stamp = dialer.newest = seconds * 1_000_000_000 + nanos
            return data, stamp - dialer.offset
        return data, time.monotonic_ns()

    def alive(self) -> bool:
        """An idle connection: whether the target has neither closed it nor said anything."""
        try:
            self._sock.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._sock.close()

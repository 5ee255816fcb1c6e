"""A command in a container, with its exit code or the plain statement that nobody knows how it ended.

The official client's WebSocket carries the v5 protocol (stdin can be closed); its `returncode` is not used: it throws
on every ending but an exit code.
"""

import json
import socket
import time
import urllib.parse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kubernetes.stream.ws_client import ERROR_CHANNEL, STDERR_CHANNEL, STDIN_CHANNEL, STDOUT_CHANNEL, WSClient
from websocket import WebSocketBadStatusException, WebSocketException

from hotfire.errors import Interrupted, Unjudged
from hotfire.kube.client import Cluster, Forbidden, NotFound, Ref, Unreachable
from hotfire.kube.errors import refused
from hotfire.kube.wait import aside
from hotfire.words import Reason

BIGGEST = 8 << 20  # bytes of output; a command that says more is cut off, and its ending is unknown
STEP = 0.2  # seconds


@dataclass(frozen=True)
class Ended:
    """How it ended. code: None when that is unknown, with `why`. said, complained: output so far, whole if code is set."""

    code: int | None
    said: str
    complained: str
    why: str

    @property
    def stdout(self) -> str:
        """The whole output. Raises Unjudged when the ending is unknown: half an output is no evidence."""
        if self.code is None:
            raise Unjudged(f"exec: {self.why}", reason=Reason.NO_DATA)
        return self.said

    def __str__(self) -> str:
        return f"unknown: {self.why}" if self.code is None else f"exit code {self.code}"


def run_in(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    *,
    deadline_s: float,
    stdin: bytes | None = None,
) -> Ended:
    """Run the command (no shell) and wait for its end, at most deadline_s seconds.

    Raises NotFound and Forbidden; whatever else goes wrong is an unknown ending, never a clean one. The command itself
    is not ended by the deadline: give it one of its own.
    """
    session = _Session(cluster, Ref("v1", "Pod", namespace, pod), container, command, stdin, deadline_s)
    try:
        return aside(session.run, deadline_s, f"exec in {pod}/{container}")
    except Interrupted:
        session.abandon()
        raise
    except Unreachable as error:
        session.abandon()
        return session.ended(None, error.message)


class _Session:
    def __init__(
        self, cluster: Cluster, pod: Ref, container: str, command: Sequence[str], stdin: bytes | None, within: float
    ) -> None:
        query = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", c) for c in command)]
        query += [("stdin", "true")] if stdin is not None else []
        path = cluster.path(pod, "exec")
        _, url, headers, _, _ = cluster.api.param_serialize("GET", path, auth_settings=["BearerToken"])
        self.url = f"ws{url.removeprefix('http')}?{urllib.parse.urlencode(query)}"
        self.what, self.headers, self.stdin = f"exec in {pod}", headers, stdin
        self.configuration, self.deadline = cluster.api.configuration, time.monotonic() + within
        self.client: Any = None
        self.output = {STDOUT_CHANNEL: b"", STDERR_CHANNEL: b"", ERROR_CHANNEL: b""}

    def run(self) -> Ended:
        try:
            self.client = WSClient(self.configuration, self.url, self.headers, capture_all=False, binary=True)  # type: ignore[no-untyped-call]
        except WebSocketBadStatusException as error:
            body = error.resp_body.decode(errors="replace") if isinstance(error.resp_body, bytes) else ""
            failure = refused(error.status_code, body or str(error), self.what)
            if isinstance(failure, Forbidden | NotFound):
                raise failure from None
            return self.ended(None, failure.message)
        except (WebSocketException, OSError) as error:
            return self.ended(None, f"{self.what}: {type(error).__name__}: {error}")
        try:
            self._send()
            self._receive()
        except (WebSocketException, OSError, ValueError) as error:
            return self.ended(None, f"{self.what}: the connection broke: {type(error).__name__}: {error}")
        finally:
            self._close()
        return self._judge()

    def _send(self) -> None:
        if self.stdin is not None:
            for start in range(0, len(self.stdin), 1 << 15):
                self.client.write_channel(STDIN_CHANNEL, self.stdin[start : start + (1 << 15)])
            self.client.close_channel(STDIN_CHANNEL)

    def _receive(self) -> None:
        while True:
            over = not self.client.is_open()  # asked before the last reading: reading one channel fills the others
            for channel in self.output:
                self.output[channel] += self.client.read_channel(channel)
            if over or time.monotonic() >= self.deadline or sum(map(len, self.output.values())) > BIGGEST:
                return
            self.client.update(timeout=min(STEP, max(0.0, self.deadline - time.monotonic())))

    def _judge(self) -> Ended:
        if not self.output[ERROR_CHANNEL]:
            return self.ended(
                None, f"{self.what}: no exit code by the deadline, the end of the connection or {BIGGEST >> 20} MiB of output"
            )
        try:
            status = json.loads(self.output[ERROR_CHANNEL])
        except ValueError:
            return self.ended(None, f"{self.what}: {self.output[ERROR_CHANNEL][:200]!r}")
        if status.get("status") == "Success":
            return self.ended(0, "")
        causes = (status.get("details") or {}).get("causes") or ()
        codes = [item["message"] for item in causes if item.get("reason") == "ExitCode"]
        if status.get("reason") == "NonZeroExitCode" and codes and codes[0].lstrip("-").isdigit():
            return self.ended(int(codes[0]), "")
        return self.ended(None, f"{self.what}: {' '.join(str(status.get('message', status)).split())[:500]}")

    def ended(self, code: int | None, why: str) -> Ended:
        said, complained = (self.output[c].decode(errors="replace") for c in (STDOUT_CHANNEL, STDERR_CHANNEL))
        return Ended(code, said, complained, why)

    def abandon(self) -> None:
        """From another thread: end the connection under the reader, which then closes it."""
        if self.client is not None and (wire := getattr(self.client.sock, "sock", None)) is not None:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        self.client.sock.shutdown()  # the client's own close leaves the socket open once the server has said goodbye

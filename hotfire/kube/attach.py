"""The input and output of a container's own process, as long as both sides stay.

With `stdinOnce` the process's input ends when this side goes, however it goes: what hangs on its input dies with us.
"""

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kubernetes.stream.ws_client import STDIN_CHANNEL, STDOUT_CHANNEL, WSClient
from websocket import WebSocketBadStatusException, WebSocketException

from hotfire.kube.client import Cluster, Ref, Unreachable
from hotfire.kube.errors import refused
from hotfire.kube.wait import aside

PIECE = 1 << 15  # bytes in a frame
STEP, SEND_S = 0.2, 60.0  # seconds / in which a line must be taken


class Attached:
    """Lines to and from a container that was made with `stdin: true`. One thread may read while another writes."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, container: str) -> None:
        """Raises ApiError when the server refuses, Unreachable when it cannot be had."""
        ref = Ref("v1", "Pod", namespace, pod)
        query = urllib.parse.urlencode({"container": container, "stdin": "true", "stdout": "true"})
        _, url, headers, _, _ = cluster.api.param_serialize("GET", cluster.path(ref, "attach"), auth_settings=["BearerToken"])
        what = f"attach to {ref}"
        where = f"ws{url.removeprefix('http')}?{query}"

        def connect() -> Any:
            return WSClient(cluster.api.configuration, where, headers, capture_all=False, binary=True)  # type: ignore[no-untyped-call]

        try:
            self._client = aside(connect, cluster.timeout, what)
        except WebSocketBadStatusException as error:
            body = error.resp_body.decode(errors="replace") if isinstance(error.resp_body, bytes) else ""
            raise refused(error.status_code, body or str(error), what) from None
        except (WebSocketException, OSError) as error:
            raise Unreachable(0, "NoConnection", f"{what}: {type(error).__name__}: {error}") from None
        self._over, self._what = threading.Event(), what

    @property
    def open(self) -> bool:
        return not self._over.is_set()

    def send(self, line: bytes) -> None:
        """One line. What is gone is not told."""
        try:
            aside(lambda: self._write(line + b"\n"), SEND_S, self._what)
        except (WebSocketException, OSError, ValueError):
            return
        except Unreachable:  # nobody takes it: what was sent in part can be followed by nothing
            self.close()

    def _write(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            self._client.write_channel(STDIN_CHANNEL, data[start : start + PIECE])

    def lines(self) -> Iterator[bytes]:
        """To the end of the process, or of the connection; a last line without its end is none."""
        rest = b""
        try:
            while True:
                over = not self._client.is_open()  # asked before the last reading
                *lines, rest = (rest + self._client.read_channel(STDOUT_CHANNEL)).split(b"\n")
                yield from lines
                if over or self._over.is_set():
                    return
                self._client.update(timeout=STEP)
        except (WebSocketException, OSError, ValueError, json.JSONDecodeError):
            return
        finally:
            self._over.set()

    def close(self) -> None:
        """Safe to repeat."""
        self._over.set()
        with suppress(WebSocketException, OSError, AttributeError):
            self._client.sock.shutdown()

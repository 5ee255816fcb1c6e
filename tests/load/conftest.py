"""Real servers for the load: one that plays a script byte by byte, and the bench's own, which writes the truth."""

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotfire.load.plan import Plan, Prompt, draw

BENCH = Path(__file__).parents[2] / "bench" / "server.py"
Script = Sequence[bytes | float]  # bytes to send, seconds to wait; a negative number resets the connection


class Scripted:
    """A raw-socket server: the text of the prompt names the script it plays. `opened` connections, `headers` seen."""

    def __init__(self, scripts: dict[str, Script], tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.scripts, self.opened, self.heads = scripts, 0, list[str]()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), self._tls.wrap_socket(sock, server_side=True) if self._tls else sock as sock:
            # the client may leave in the middle of a script
            while asked := self._request(sock):
                for step in self.scripts[asked]:
                    if isinstance(step, bytes):
                        sock.sendall(step)
                    elif step < 0:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        return
                    elif self._over.wait(step):
                        return

    def _request(self, sock: socket.socket) -> str:
        data = b""
        try:
            while not (found := re.search(rb"(?i)content-length: (\d+)", data)) or not self._whole(data, int(found[1])):
                piece = sock.recv(65536)
                if not piece:
                    return ""
                data += piece
                if data[:1] == b"\x16":  # a TLS hello: what a plain server says to it
                    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    return ""
        except OSError:
            return ""
        head, _, body = data.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        asked = json.loads(body)
        texts = [
            asked.get("inputs"),
            asked.get("prompt"),
            asked.get("input"),
            *(m["content"] for m in asked.get("messages", ())),
        ]
        return str(next(text for text in texts if text))

    @staticmethod
    def _whole(data: bytes, length: int) -> bool:
        return len(data.partition(b"\r\n\r\n")[2]) >= length


@pytest.fixture(scope="module")
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Start scripted servers; they end with the module."""
    made: list[Scripted] = []

    def start(scripts: dict[str, Script], tls: ssl.SSLContext | None = None) -> Scripted:
        made.append(Scripted(scripts, tls))
        return made[-1]

    yield start
    for server in made:
        server.close()


@dataclass
class Truthful:
    """The bench's server: `truth` after stop() is {request id: (received ns, [sent ns, ...])}."""

    url: str
    process: "subprocess.Popen[bytes]"
    path: Path

    def truth(self) -> dict[str, tuple[int, list[int]]]:
        self.process.terminate()
        self.process.wait(10)
        lines = (json.loads(line) for line in self.path.read_text().splitlines())
        return {line["rid"]: (line["recv"], line["sends"]) for line in lines}


@pytest.fixture
def truthful(tmp_path: Path) -> Iterator[Callable[..., Truthful]]:
    """Start the logging server with its own flags."""
    made: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> Truthful:
        path = tmp_path / "truth.jsonl"
        process = subprocess.Popen([sys.executable, BENCH, "--truth", path, *flags], stdout=subprocess.PIPE)
        made.append(process)
        assert process.stdout is not None
        return Truthful(f"http://127.0.0.1:{int(process.stdout.readline())}", process, path)

    yield start
    for process in made:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """A plan of one prompt in this test's folder."""

    def make(arrivals: str, *looks: int, **options: object) -> Plan:
        texts = options.pop("texts", ("hello",))
        prompts = [Prompt(text, text) for text in texts]  # type: ignore[attr-defined]
        return draw(tmp_path / "plan.jsonl", arrivals, prompts, looks, **options)  # type: ignore[arg-type]

    return make

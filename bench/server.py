"""A streaming server that writes the truth: when each request came and when each token went, by CLOCK_MONOTONIC.

    python bench/server.py --truth FILE [--ttft MS] [--itl MS] [--freeze AT:SECONDS ...] [--service MS] [--cpu N]

One epoll loop on raw sockets, so that it stays truthful where the client is to be measured. It prints the port it listens
on. OpenAI chat SSE, chunked, one token a chunk, keep-alive; a request gets `max_completion_tokens` or `max_tokens` tokens,
one each --itl after a first one at --ttft (+-20 %, by the request's id, so that streams are not in step); a GET is told of
one model. --freeze AT:S: it stops doing anything at all for S seconds, AT seconds after its first request. On SIGTERM it
writes one JSON line per request to --truth: {"rid", "recv": ns, "sends": [ns, ...]}: recv by the kernel's stamp of the
request, sends just before each send.
"""

import argparse
import ctypes
import heapq
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import time

SO_TIMESTAMPNS = 35
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Served-By: bench\r\n\r\n"


def event(text: str) -> bytes:
    body = f"data: {text}\n\n".encode()
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def chunk(delta: str, finish: str = "null") -> bytes:
    return event(
        '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench","choices":'
        f'[{{"index":0,"delta":{{{delta}}},"finish_reason":{finish}}}]}}'
    )


ROLE, TOKEN = chunk('"role":"assistant","content":""'), chunk('"content":" tok"')
LAST = chunk("", '"length"') + event("[DONE]") + b"0\r\n\r\n"
NAMED = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
MODELS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(NAMED), NAMED)


class Server:
    def __init__(self, args: argparse.Namespace) -> None:
        self.ttft, self.itl = args.ttft * 1e6, args.itl * 1e6
        self.freezes = sorted((float(at), float(length)) for at, length in (text.split(":") for text in args.freeze))
        self.truth, self.log = args.truth, {}
        self.listener = socket.create_server(("127.0.0.1", args.port), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.clients: dict[int, socket.socket] = {}
        self.halves: dict[int, bytes] = {}
        self.heap: list[tuple[int, int, int, str, int, int]] = []  # when, order, fd, rid, tokens left, step
        self.first = 0
        self.order = 0
        self.over = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "over", True))
        print(self.listener.getsockname()[1], flush=True)
        while not self.over:
            now = time.monotonic_ns()
            self.freeze(now)
            heap = self.heap
            while heap and heap[0][0] <= now:
                self.step(heapq.heappop(heap))
            wait = 0.05 if not heap else max(heap[0][0] - time.monotonic_ns(), 0) / 1e9
            # epoll waits whole milliseconds, and a token is owed at its time
            for fd, _ in self.poll.poll(0 if wait < 0.001 else min(wait - 0.0009, 0.05), 4096):
                if fd == self.listener.fileno():
                    self.accept()
                else:
                    self.read(fd)
        with open(self.truth, "w", encoding="ascii") as out:
            for rid, (recv, sends) in self.log.items():
                out.write(json.dumps({"rid": rid, "recv": recv, "sends": sends}) + "\n")

    def freeze(self, now: int) -> None:
        if self.freezes and self.first and now - self.first >= self.freezes[0][0] * 1e9:
            time.sleep(self.freezes.pop(0)[1])

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self.clients[sock.fileno()] = sock
            self.poll.register(sock, select.EPOLLIN)

    def drop(self, fd: int) -> None:
        sock = self.clients.pop(fd, None)
        self.halves.pop(fd, None)
        if sock is not None:
            sock.close()

    def read(self, fd: int) -> None:
        sock = self.clients.get(fd)
        if sock is None:
            return
        try:
            data, extra, _, _ = sock.recvmsg(65536, 64)
        except BlockingIOError:
            return
        except OSError:
            data, extra = b"", []
        now = time.monotonic_ns()
        if extra:  # when it came, not when this loop got to it
            seconds, nanos = struct.unpack("qq", extra[0][2])
            now -= time.time_ns() - seconds * 1_000_000_000 - nanos
        if not data:
            self.drop(fd)
            return
        whole = self.halves.pop(fd, b"") + data
        head, cut, body = whole.partition(b"\r\n\r\n")
        if cut and head.startswith(b"GET "):  # tools look for the model first
            sock.send(MODELS)
            return
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not cut or not length or len(body) < int(length[1]):
            self.halves[fd] = whole
            return
        asked = json.loads(body[: int(length[1])])
        found = re.search(rb"(?i)x-request-id: (\S+)", head)
        rid = found[1].decode() if found else f"none-{len(self.log)}"
        self.first = self.first or now
        self.log[rid] = (now, [])
        spread = 0.8 + 0.4 * ((hash(rid) & 1023) / 1023)
        self.order += 1
        tokens = asked.get("max_completion_tokens") or asked.get("max_tokens", 16)
        heapq.heappush(self.heap, (int(now + self.ttft * spread), self.order, fd, rid, tokens, 0))

    def step(self, due: tuple[int, int, int, str, int, int]) -> None:
        when, order, fd, rid, left, step = due
        sock = self.clients.get(fd)
        if sock is None:
            return
        left -= 1
        data = (HEAD + ROLE if not step else b"") + TOKEN + (b"" if left else LAST)
        sends = self.log[rid][1]
        try:
            sends.append(time.monotonic_ns())  # the moment before: the kernel's stamp of arrival lies after it
            sock.send(data)
        except OSError:
            self.drop(fd)
            return
        if left:
            heapq.heappush(self.heap, (int(when + self.itl), order, fd, rid, left, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", default=os.devnull)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft", type=float, default=200.0)
    parser.add_argument("--itl", type=float, default=20.0)
    parser.add_argument("--freeze", action="append", default=[])
    parser.add_argument("--cpu", type=int)
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it ends with whoever measures
    if args.cpu is not None:
        os.sched_setaffinity(0, {args.cpu})
    Server(args).run()


if __name__ == "__main__":
    sys.exit(main())

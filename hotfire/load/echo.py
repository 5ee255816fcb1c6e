"""The server of the calibration: OpenAI streams on loopback, one token every 20 ms, in a process of its own.

It prints its port, and ends with its input. It is no measure of anything: what counts is what its client had to do.
"""

import heapq
import os
import re
import select
import socket
import time

PERIOD_NS = 20_000_000
ASKED = re.compile(rb'"max_tokens":\s*(\d+)')
LENGTH = re.compile(rb"(?i)content-length: (\d+)")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(text: str) -> bytes:
    body = f"data: {text}\n\n".encode()
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


TOKEN = _event('{"id":"calibration","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" token"},'
               '"finish_reason":null}]}')  # fmt: skip
LAST = _event('{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}') + _event("[DONE]") + b"0\r\n\r\n"


def serve() -> None:
    """Until the input ends."""
    listener, poll = socket.create_server(("127.0.0.1", 0), backlog=1024), select.epoll()
    listener.setblocking(False)
    poll.register(listener, select.EPOLLIN)
    poll.register(0, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    owed: list[tuple[int, int, int]] = []  # when, to whom, tokens left
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    while True:
        while owed and owed[0][0] <= time.monotonic_ns():
            due, fd, left = heapq.heappop(owed)
            if fd in clients and _sent(clients, fd, TOKEN if left > 1 else TOKEN + LAST) and left > 1:
                heapq.heappush(owed, (due + PERIOD_NS, fd, left - 1))
        wait = (owed[0][0] - time.monotonic_ns()) / 1e9 if owed else 1.0
        for fd, _ in poll.poll(max(wait, 0), 1024):
            if fd == 0:
                return
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[sock.fileno()] = sock
                poll.register(sock, select.EPOLLIN)
            elif (tokens := _asked(clients, fd)) and _sent(clients, fd, HEAD):
                heapq.heappush(owed, (time.monotonic_ns(), fd, tokens))


def _asked(clients: dict[int, socket.socket], fd: int) -> int:
    """How many tokens; 0 when the client has left."""
    data = b""
    try:
        while not (found := LENGTH.search(data)) or len(data.partition(b"\r\n\r\n")[2]) < int(found[1]):
            piece = clients[fd].recv(65536)
            if not piece:
                break
            data += piece
    except OSError:
        data = b""
    if tokens := ASKED.search(data):
        return int(tokens[1])
    clients.pop(fd).close()
    return 0


def _sent(clients: dict[int, socket.socket], fd: int, data: bytes) -> bool:
    try:
        clients[fd].sendall(data)
    except OSError:
        clients.pop(fd).close()
        return False
    return True


if __name__ == "__main__":
    serve()
    os._exit(0)

"""Other clients under the same streams, one process each: python bench/peers.py CLIENT --url URL --streams N --seconds S.

Closed loop: N streams, each a request after another, as these clients are used. It writes JSON lines to the standard
output: one {"rid", "sent", "first", "gaps": [...]} per whole answer (ns, CLOCK_MONOTONIC) and at last {"cpu_s", "tokens"}.
fast-http is locust's FastHttpUser with `iter_lines` as shipped; fast-http-paced is its own way to 100 requests a second.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

Note = dict[str, Any]


class Stream:
    """Stamps the lines of one answer."""

    def __init__(self, rid: str) -> None:
        self.rid, self.sent, self.stamps = rid, time.monotonic_ns(), list[int]()

    def line(self, line: str) -> None:
        if '"content":" tok"' in line:
            self.stamps.append(time.monotonic_ns())

    def note(self) -> Note:
        gaps = [b - a for a, b in zip(self.stamps, self.stamps[1:], strict=False)]
        return {"rid": self.rid, "sent": self.sent, "first": self.stamps[0] if self.stamps else None, "gaps": gaps,
                "end": time.monotonic_ns()}  # fmt: skip


def body(tokens: int) -> Note:
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": tokens, "stream": True}


async def closed(one: Any, args: argparse.Namespace) -> list[Note]:
    notes: list[Note] = []
    over = time.monotonic() + args.seconds

    async def stream(number: int) -> None:
        await asyncio.sleep(number / args.streams * 2)
        turn = 0
        while time.monotonic() < over:
            seen = Stream(f"{number}-{turn}")
            await one(seen)
            notes.append(seen.note())
            turn += 1

    await asyncio.gather(*(stream(number) for number in range(args.streams)))
    return notes


async def with_httpx(args: argparse.Namespace) -> list[Note]:
    import httpx

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(verify=False, timeout=120, limits=limits) as client:

        async def one(seen: Stream) -> None:
            async with client.stream("POST", args.url, json=body(args.tokens), headers={"X-Request-Id": seen.rid}) as answer:
                async for line in answer.aiter_lines():
                    seen.line(line)

        return await closed(one, args)


async def with_aiohttp(args: argparse.Namespace) -> list[Note]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one(seen: Stream) -> None:
            async with client.post(args.url, json=body(args.tokens), headers={"X-Request-Id": seen.rid}) as answer:
                async for line in answer.content:
                    seen.line(line.decode())

        return await closed(one, args)


def with_fast_http(args: argparse.Namespace, paced: bool) -> list[Note]:
    import locust  # noqa: F401  isort: skip
    import gevent
    from locust import FastHttpUser, constant, constant_throughput, task
    from locust.env import Environment

    notes: list[Note] = []
    over = time.monotonic() + args.seconds
    users = 10 if paced else args.streams

    class Reader(FastHttpUser):
        host = args.url.rsplit("/v1", 1)[0]
        wait_time = constant_throughput(args.rate / users) if paced else constant(0)
        turns = 0

        @task
        def read(self) -> None:
            if time.monotonic() > over:
                return
            Reader.turns += 1
            seen = Stream(f"u-{Reader.turns}")
            asked = {"json": body(args.tokens), "headers": {"X-Request-Id": seen.rid}}
            for line in self.client.iter_lines("/v1/chat/completions", method="POST", **asked):
                seen.line(line)
            notes.append(seen.note())

    runner = Environment(user_classes=[Reader]).create_local_runner()
    runner.start(users, spawn_rate=users)
    gevent.sleep(args.seconds + 1)
    runner.quit()
    return notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=["httpx", "aiohttp", "fast-http", "fast-http-paced"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--cpu", type=int, default=1)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cpu})
    args.url += "/v1/chat/completions"
    before = time.process_time()
    if args.client == "httpx":
        notes = asyncio.run(with_httpx(args))
    elif args.client == "aiohttp":
        notes = asyncio.run(with_aiohttp(args))
    else:
        notes = with_fast_http(args, args.client.endswith("paced"))
    used = time.process_time() - before
    tokens = sum(len(note["gaps"]) + 1 for note in notes)
    sys.stdout.write("".join(json.dumps(note) + "\n" for note in notes) + json.dumps({"cpu_s": used, "tokens": tokens}) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

"""The way to one carrier: JSON lines there and back, and how it ended. Here: a process on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from hotfire.errors import HarnessError

Message = dict[str, Any]


class Wire(Protocol):
    """What LoadRun needs of a carrier. here: whether it runs on this machine, by the same CLOCK_MONOTONIC."""

    @property
    def here(self) -> bool: ...

    @property
    def alive(self) -> bool:
        """Whether it still runs."""

    def tell(self, message: Mapping[str, Any]) -> None:
        """One line to it. One that is gone is not told: what it said last is on its way."""

    def lines(self) -> Iterator[Message]:
        """What it says, to its end; for a thread of the caller's."""

    def ending(self, within_s: float) -> str:
        """How it ended: `exit code -9: last words`. Waits that long at most."""

    def kill(self) -> None:
        """End it at once."""

    def close(self) -> None:
        """Let it go; safe to repeat."""


class Process:
    """A carrier spawned by the main thread; it dies with this process."""

    here = True

    def __init__(self, options: Mapping[str, object], flags: Sequence[str], log: Path) -> None:
        command = [sys.executable, "-m", "hotfire.load", *flags, "--parent", str(os.getpid())]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._log = log
        with log.open("wb") as words:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, start_new_session=True, env=_environment()
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise HarnessError("the carrier has neither input nor output")
        self._in, self._out = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def tell(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError):
            self._in.write(json.dumps(message).encode() + b"\n")
            self._in.flush()

    def lines(self) -> Iterator[Message]:
        with self._out:
            for line in self._out:
                yield json.loads(line)

    def ending(self, within_s: float) -> str:
        code = self._process.wait(within_s)
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"exit code {code}: {lines[-1][:300] if lines else 'it said nothing'}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        with suppress(OSError):
            self._in.close()


def _environment() -> dict[str, str]:
    """The parent's, without what would change locust's mind or the interpreter's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "PYTEST_"))}

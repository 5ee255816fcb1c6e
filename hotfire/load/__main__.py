"""`python -m hotfire.load`: the carrier's process. locust comes first: it must patch before anything imports ssl."""

from hotfire.load import polling  # noqa: F401  isort: skip
import locust  # noqa: F401  isort: skip

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click

from hotfire.errors import BadInput
from hotfire.load import plan as plans
from hotfire.load.carrier import Echo, carry
from hotfire.load.crew import Relay, lead
from hotfire.load.lines import ORPHANED, Pipe
from hotfire.load.target import PORT, Target

PR_SET_PDEATHSIG = 1


@click.command()
@click.option("--plan", "plan_file", required=True, help="a file; - for a plan that comes first on the input")
@click.option("--digest", help="SHA-256 the plan must have")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--target", "url", required=True, help="scheme, host and port, with a base path if there is one")
@click.option("--api", default="chat", show_default=True)
@click.option("--model", required=True)
@click.option("--timeout", default=60.0, show_default=True, help="seconds")
@click.option("--slots", default=64, show_default=True, help="requests in flight at most")
@click.option("--max-age", default=10.0, show_default=True, help="seconds a connection is used")
@click.option("--scale", default=1.0, show_default=True, help="the tightest latency that is judged, seconds")
@click.option("--served-by", default="x-served-by", show_default=True)
@click.option("--pods", default="", help="NAME=HOST:PORT,…: asked in turn instead of the target's host")
@click.option("--ca", default="")
@click.option("--verify", type=click.BOOL, default=True)
@click.option("--cpu", type=int)
@click.option("--calibrate", is_flag=True, help="say first what this process can carry, and end when that is too little")
@click.option("--workers", default=1, show_default=True, help="lead so many carriers that come with --master")
@click.option("--master", default="", help="address of the process that leads")
@click.option("--port", default=PORT, show_default=True, help="of that process")
@click.option("--parent", type=int, help="process id that must be the parent; its death ends this process")
def main(
    plan_file: str, digest: str | None, out: Path, url: str, api: str, model: str, timeout: float, slots: int, max_age: float,
    scale: float, served_by: str, pods: str, ca: str, verify: bool, cpu: int | None, calibrate: bool, workers: int, master: str,
    port: int, parent: int | None,
) -> None:  # fmt: skip
    """Carry a plan to a target. Talks JSON lines on stdin and stdout (hotfire.load.carrier)."""
    if parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(ORPHANED)
    try:
        if workers > 1:
            os._exit(lead(Pipe(), port, workers))
        pipe, remote = Relay(master, port, url) if master else Pipe(), plan_file == "-"
        file, digest = pipe.received(out) if remote else (Path(plan_file), digest)
        asked = tuple(filter(None, pods.split(",")))
        target = Target(url, api, model, timeout, slots, max_age, scale, served_by.lower(), ca, not verify, asked)
        plan = plans.load(file, digest)
        out.mkdir(parents=True, exist_ok=True)
        echo = Echo() if calibrate else None
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket for each slot
        with suppress(PermissionError):  # it measures: whoever shares its CPU must not be read as the target's latency
            os.nice(-10)
    except BadInput as error:
        click.echo(str(error), err=True)
        sys.exit(4)
    except OSError as error:
        click.echo(f"{out}, CPU {cpu}: {error.strerror}", err=True)
        sys.exit(4)
    code = carry(pipe, plan, target, out, cpu, echo, remote=remote)
    sys.stdout.flush()
    os._exit(code)


main()

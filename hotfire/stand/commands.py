"""`hotfire stand up|down|status|build`: the embedded stand from the command line."""

from pathlib import Path

import click

from hotfire.errors import BadInput, HarnessError, Refused
from hotfire.stand import images
from hotfire.stand.embedded import build as builder
from hotfire.stand.embedded import lifecycle, machine
from hotfire.stand.embedded.plan import Stand

NAME = click.option("--name", default="dev", show_default=True, help="The stand's name.")
WAIT = click.option("--wait", default=0.0, metavar="SECONDS", help="Wait this long for another stand to go.")


class _OneLine(click.Group):
    """Shows what hotfire raises on purpose as one line, exit 4; anything else is a defect and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (BadInput, Refused, HarnessError) as error:
            click.echo(str(error), err=True)
            ctx.exit(4)


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.group(cls=_OneLine)
def stand() -> None:
    """Real Kubernetes on this machine, without Docker: three nodes, simulated GPUs, a private registry."""


@stand.command()
@NAME
@WAIT
@click.option("--binaries", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Use official ones.")
@click.option("--gpus-per-node", default=2, show_default=True, help="Simulated GPUs on each of the two GPU nodes.")
def up(name: str, wait: float, binaries: Path | None, gpus_per_node: int) -> None:
    """Start the stand, or what of it is not running."""
    running = lifecycle.up(Stand(name=name, binaries=binaries, gpus_per_node=gpus_per_node), wait, _say)
    click.echo(f"export KUBECONFIG={running.kubeconfig}")


@stand.command()
@NAME
@WAIT
def down(name: str, wait: float) -> None:
    """Take the stand away and leave nothing behind."""
    if not lifecycle.down(Stand(name=name), wait, _say):
        _say(f"no stand {name} on this machine")


@stand.command()
@NAME
def status(name: str) -> None:
    """What runs, since when, in how much memory. Exit 1 when the stand is not up."""
    found = lifecycle.status(Stand(name=name))
    if found is None:
        holder = machine.owner()
        click.echo(f"no stand {name}" + (f"; {holder}" if holder and holder.alive else ""))
        raise SystemExit(1)
    click.echo(f"stand {found.name}: {found.phase} since {found.since}, {found.resident_mb:.0f} MB resident")
    for node, ready in found.nodes.items():
        click.echo(f"  node {node}: {'Ready' if ready else 'NotReady'}")
    for process, megabytes in found.processes.items():
        click.echo(f"  {process}: {megabytes:.0f} MB")
    raise SystemExit(0 if found.phase == "up" else 1)


@stand.command()
def build() -> None:
    """Build the stand's binaries and images into the cache, once."""
    machine.check()
    builder.binaries(None, _say)
    for name in images.NAMES:
        images.build(name, _say)


@stand.command()
def packages() -> None:
    """The Debian packages the stand needs, one line."""
    click.echo(" ".join(machine.DEBIAN_PACKAGES))


if __name__ == "__main__":
    stand()

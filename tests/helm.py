"""The real Helm, as a pipeline calls it: built as the stand's binaries are, once and into their cache, for tests alone."""

from functools import partial
from pathlib import Path

import click

from hotfire.stand.embedded.build import Component, build

HELM = Component("helm", {"helm": "helm"}, Path(__file__).parent / "tools")


def binary() -> Path:
    """Built on first use."""
    return build(HELM, partial(click.echo, err=True)) / HELM.binaries["helm"]


if __name__ == "__main__":
    binary()

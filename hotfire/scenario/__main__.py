"""`python -m hotfire.scenario [schema] [--check]`: writes schema.json and scenarios/README.md, or says which one is stale."""

import sys

import click

from hotfire.scenario.reference import README, SCHEMA, reference, schema


@click.command()
@click.argument("what", type=click.Choice(["all", "schema", "reference"]), default="all")
@click.option("--check", is_flag=True, help="write nothing, exit 1 when a file is not current")
def main(what: str, check: bool) -> None:
    """Generate from the models what editors and people read."""
    files = {"schema": (SCHEMA, schema), "reference": (README, reference)}
    stale = []
    for name, (path, make) in files.items():
        if what not in ("all", name):
            continue
        current = path.read_text(encoding="utf-8") if path.is_file() else ""
        if current != make():
            stale.append(path.name)
            if not check:
                path.write_text(make(), encoding="utf-8")
                click.echo(f"{path.name}: written")
    if check and stale:
        click.echo(f"{', '.join(stale)}: not what the models say, run `make checks`", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m hotfire.scenario")

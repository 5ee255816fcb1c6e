"""`hotfire`: the command line. It holds no rules; a run is pytest with the packaged suites and nothing else loaded."""

import json
import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from hotfire import __version__
from hotfire.errors import BadInput, Damaged, HotfireError, Refused
from hotfire.words import Provider, Verdict

PLUGINS = ("hotfire.plugin", "allure_pytest.plugin", "pytest_timeout")
USAGE = 4  # pytest's own code for bad input


class Errors(click.Group):
    """One boundary for every command: bad input and refusals are lines, exit 4, never a traceback."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), "stand"])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """`stand` is imported only when it is asked for: it is not needed on a user's cluster."""
        if name == "stand":
            from hotfire.stand.commands import stand

            return stand
        return super().get_command(context, name)

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except BadInput as bad:
            for line in bad.lines:
                click.echo(line, err=True)
        except Refused as refused:
            click.echo(str(refused), err=True)
            if isinstance(refused, Damaged):
                raise SystemExit(Verdict.UNSAFE.exit_code) from None
        except click.UsageError as usage:
            click.echo(usage.format_message(), err=True)
        except HotfireError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            raise SystemExit(1) from None
        raise SystemExit(USAGE)


@click.group(cls=Errors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hotfire")
def main() -> None:
    """Certify a model rollout on Kubernetes, and take it back with proof when a gate fails."""


def suites_folder() -> Path:
    """The packaged suites, or the checkout's."""
    packaged = Path(__file__).with_name("suites")
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "suites"


def images(values: tuple[str, ...]) -> dict[str, str]:
    """NAME=REF pairs. Raises BadInput for one without an equals sign."""
    if wrong := [value for value in values if "=" not in value]:
        raise BadInput(*(f"--image {value}: NAME=REF is expected" for value in wrong))
    return dict(value.split("=", 1) for value in values)


def _say(line: str) -> None:
    """To whoever still reads: a way back does not end with its reader."""
    with suppress(OSError):
        click.echo(line)


def stand_options(command: click.decorators.FC) -> click.decorators.FC:
    """Options that say where a scenario runs, shared by every command that reaches a cluster."""
    for option in (
        click.option("--kubeconfig", type=click.Path(), help="instead of the scenario's stand.kubeconfig"),
        click.option("--context", "kube_context", help="instead of the scenario's stand.context"),
        click.option("--namespace", help="instead of the scenario's stand.namespace"),
    ):
        command = option(command)
    return command


def run_pytest(scenario: Path, options: dict[str, str | None], image: tuple[str, ...], reports: Path) -> int:
    """Run the packaged suites in this process; the exit code is the verdict's, read back from verdict.json."""
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    os.environ.pop("PYTEST_PLUGINS", None)
    reports.mkdir(parents=True, exist_ok=True)
    pointer = reports / f".latest-{os.getpid()}"
    pointer.unlink(missing_ok=True)  # of a process that had this number and was killed
    folder = suites_folder()
    arguments = [
        "-c",
        str(folder / "pytest.ini"),
        "--rootdir",
        str(folder),
        "-p",
        "no:terminal",  # the run says what it does, line by line
        "--capture=fd",
    ]
    for plugin in PLUGINS:
        arguments += ["-p", plugin]
    arguments += ["--hotfire-scenario", str(scenario)]
    arguments += ["--hotfire-reports", str(reports), "--hotfire-pointer", str(pointer)]
    for name, value in options.items():
        arguments += [f"--hotfire-{name}", value] if value else []
    for pair in image:
        arguments += ["--hotfire-image", pair]
    code = int(pytest.main([*arguments, str(folder)]))
    waits = options.get("phase") is not None  # its verdict is for `settle`
    try:
        said = int(json.loads((Path(pointer.read_text()) / "verdict.json").read_text())["exit_code"])
    except (OSError, ValueError):
        return code if waits or code else Verdict.INCONCLUSIVE.exit_code
    finally:
        pointer.unlink(missing_ok=True)
    return said or code


def run_provided(
    provider: str,
    load_image: tuple[str, ...],
    scenario: Path,
    options: dict[str, str | None],
    image: tuple[str, ...],
    reports: Path,
) -> int:
    """`run_pytest` on a cluster that pytest-kubernetes makes for it; bad input is said before a cluster is made."""
    from hotfire.plugin.run import located
    from hotfire.stand.pytest_kubernetes import provided

    if options["kubeconfig"] or options["context"]:
        raise BadInput("--provider makes a cluster of its own: not with --kubeconfig or --context")
    located(scenario, options["namespace"], list(image), options["watchdog-image"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # outside the run it ends this block, which deletes the cluster
    with provided(provider, "hotfire") as made:
        for one in load_image:
            made.load_image(one)
        return run_pytest(scenario, {**options, "kubeconfig": str(made.kubeconfig)}, image, reports)


@main.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@stand_options
@click.option("--image", multiple=True, metavar="NAME=REF", help="use REF (with a digest) for the image NAME of the manifests")
@click.option("--watchdog-image", metavar="REF", help="instead of the scenario's stand.image: arms the way back in the cluster")
@click.option("--reports", type=click.Path(path_type=Path), default=Path("reports"), show_default=True)
@click.option("--wait", default="0s", show_default=True, help="how long to wait for the workload's lock")
@click.option(
    "--provider", type=click.Choice([one.value for one in Provider]), help="a cluster made for this run, then deleted"
)
@click.option("--load-image", multiple=True, metavar="IMAGE", help="with --provider: put this local image onto its nodes")
def run(
    scenario: Path,
    kubeconfig: str | None,
    kube_context: str | None,
    namespace: str | None,
    image: tuple[str, ...],
    watchdog_image: str | None,
    reports: Path,
    wait: str,
    provider: str | None,
    load_image: tuple[str, ...],
) -> None:
    """Certify or promote what SCENARIO says. Exit 0 GO, 20 NO_GO, 21 INCONCLUSIVE, 22 UNSAFE, 4 bad input."""
    options = {"kubeconfig": kubeconfig, "context": kube_context, "namespace": namespace, "wait": wait,
               "watchdog-image": watchdog_image}  # fmt: skip
    images(image)
    if provider is not None:
        raise SystemExit(run_provided(provider, load_image, scenario, options, image, reports))
    if load_image:
        raise BadInput("--load-image: only with --provider; elsewhere nodes pull from a registry")
    raise SystemExit(run_pytest(scenario, options, image, reports))


@main.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@stand_options
@click.option("--image", multiple=True, metavar="NAME=REF", help="use REF (with a digest) for the image NAME of the manifests")
@click.option("--watchdog-image", metavar="REF", help="instead of the scenario's stand.image")
@click.option("--reports", type=click.Path(path_type=Path), default=Path("reports"), show_default=True)
@click.option("--wait", default="0s", show_default=True, help="how long to wait for the workload's lock")
def arm(
    scenario: Path,
    kubeconfig: str | None,
    kube_context: str | None,
    namespace: str | None,
    image: tuple[str, ...],
    watchdog_image: str | None,
    reports: Path,
    wait: str,
) -> None:
    """Pipeline mode, before its deploy: arm the way back, and leave the run to its watchdog. Exit 0: deploy now."""
    images(image)
    options = {"kubeconfig": kubeconfig, "context": kube_context, "namespace": namespace, "wait": wait,
               "watchdog-image": watchdog_image, "phase": "arm"}  # fmt: skip
    raise SystemExit(run_pytest(scenario, options, image, reports))


@main.command()
@click.argument("run", type=click.Path(path_type=Path, resolve_path=True))
@click.option("--kubeconfig", type=click.Path(), help="instead of the scenario's stand.kubeconfig")
@click.option("--context", "kube_context", help="instead of the scenario's stand.context")
def verify(run: Path, kubeconfig: str | None, kube_context: str | None) -> None:
    """Pipeline mode, after its deploy: ask all checks of what was deployed. RUN is the folder. Exit 0: all passed."""
    from hotfire.plugin.pipeline import Given

    given = Given.of(run)
    options = {"kubeconfig": kubeconfig, "context": kube_context, "namespace": given.namespace,
               "watchdog-image": given.watchdog, "phase": "verify", "run": str(run)}  # fmt: skip
    raise SystemExit(run_pytest(Path(given.scenario), options, given.images, run.parent))


@main.command()
@click.argument("scenario", type=click.Path(path_type=Path))
def lint(scenario: Path) -> None:
    """Check SCENARIO without a cluster; every finding is a line, exit 4."""
    from hotfire.own_checks import checks_of
    from hotfire.scenario.lint import lint as findings
    from hotfire.scenario.loader import load

    located = load(scenario)
    if found := findings(located):
        raise BadInput(*found)
    checks_of(located)
    click.echo(f"{scenario}: fit for a run")


@main.command()
@click.argument("scenario", type=click.Path(path_type=Path))
def plan(scenario: Path) -> None:
    """Say what SCENARIO's load can decide, with how many requests and minutes, and which checks are asked."""
    from hotfire.check import plan as planned
    from hotfire.load.capacity import known
    from hotfire.own_checks import checks_of
    from hotfire.scenario.loader import load
    from hotfire.scenario.plan import plan as lines

    located = load(scenario)
    for line in (*lines(located), *([known(located.scenario.load)] if located.scenario.load else [])):
        click.echo(line)
    for check in planned(checks_of(located), located.scenario):
        click.echo(f"{'asked' if check.asked else check.reason:11}  {check.gate:9} {check.key}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--anchors", is_flag=True, help="also hold the record against what the run's journal in the cluster holds")
@stand_options
def judge(folder: Path, anchors: bool, kubeconfig: str | None, kube_context: str | None, namespace: str | None) -> None:
    """Recompute gates and verdict of a finished run from its FOLDER alone, offline; with --anchors not so."""
    from hotfire.report.judge import judge as recompute

    found = recompute(folder, _anchors(folder, kubeconfig, kube_context, namespace) if anchors else None)
    for line in found.lines:
        click.echo(line)
    raise SystemExit(found.verdict.exit_code if found.agrees else Verdict.UNSAFE.exit_code)


def _anchors(folder: Path, kubeconfig: str | None, context: str | None, namespace: str | None) -> list[str]:
    from hotfire.kube.client import Cluster
    from hotfire.plugin.close import anchors_of

    return anchors_of(partial(Cluster.connect, kubeconfig, context), folder, namespace)


@main.command()
@stand_options
@click.argument("workload", required=False)
def abort(kubeconfig: str | None, kube_context: str | None, namespace: str | None, workload: str | None) -> None:
    """Restore what a dead run left, from its journal in the cluster. Safe to repeat: exit 0 when there is nothing to do."""
    _finish("abort", kubeconfig, kube_context, namespace, workload)


@main.command()
@stand_options
@click.argument("workload", required=False)
def resume(kubeconfig: str | None, kube_context: str | None, namespace: str | None, workload: str | None) -> None:
    """Go on with a way back whose executor died, and prove it. Safe to repeat: exit 0 when there is nothing to do."""
    _finish("resume", kubeconfig, kube_context, namespace, workload)


def _finish(how: str, kubeconfig: str | None, context: str | None, namespace: str | None, workload: str | None) -> None:
    from hotfire.kube.client import Cluster
    from hotfire.rollout import takeover

    if namespace is None:
        raise BadInput("--namespace: missing, the namespace of the dead run is expected")
    bring_back = {"abort": takeover.abort, "resume": takeover.resume}[how]
    ending = bring_back(Cluster.connect(kubeconfig, context), namespace, workload, tell=_say)
    raise SystemExit(ending.verdict.exit_code if ending else 0)


@main.command()
@click.argument("run", type=click.Path(path_type=Path, resolve_path=True))
@click.option("--record-lost", is_flag=True, help="there is no record any more: close the run as UNSAFE")
@stand_options
def settle(run: Path, record_lost: bool, kubeconfig: str | None, kube_context: str | None, namespace: str | None) -> None:
    """Decide a run that waits, or prove and close one that confirmed and died. RUN is its folder. Exits as its verdict says."""
    from hotfire.kube.client import Cluster
    from hotfire.plugin.pipeline import settle as end

    connect = partial(Cluster.connect, kubeconfig, kube_context)
    verdict = end(connect, run, namespace, kubeconfig, kube_context, gone=record_lost, tell=_say)
    raise SystemExit(verdict.exit_code)


@main.command()
@stand_options
@click.option("--older-than", default="1h", show_default=True, metavar="DURATION", help="leave alone what is younger")
def sweep(kubeconfig: str | None, kube_context: str | None, namespace: str | None, older_than: str) -> None:
    """Remove what ended or dead runs left in a namespace (or in all). Exit 0, and 22 when something could not be removed."""
    from hotfire.kube.client import Cluster
    from hotfire.rollout import sweep as sweeping
    from hotfire.scenario.units import duration_of

    older_s = duration_of("--older-than", older_than)
    cluster, say = Cluster.connect(kubeconfig, kube_context), _say
    left = (
        sweeping.sweep(cluster, namespace, older_s, tell=say) if namespace else sweeping.sweep_all(cluster, older_s, tell=say)
    )
    for line in left:
        click.echo(line, err=True)
    raise SystemExit(Verdict.UNSAFE.exit_code if left else 0)


@main.command()
@stand_options
def status(kubeconfig: str | None, kube_context: str | None, namespace: str | None) -> None:
    """Show the journals of hotfire in a namespace (or in all), who is at them, and what the next command is."""
    from hotfire.kube.client import Cluster
    from hotfire.rollout.status import describe

    for line in describe(Cluster.connect(kubeconfig, kube_context), namespace or ""):
        click.echo(line)


@main.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--namespace", help="instead of the scenario's stand.namespace")
@click.option("--only", type=click.Choice(["hotfire", "hotfire-watchdog"]), help="for one of the two identities")
def rbac(scenario: Path, namespace: str | None, only: str | None) -> None:
    """Print ServiceAccounts, Roles and RoleBindings that SCENARIO needs, for `kubectl apply -f -`. Nothing is created."""
    import yaml

    from hotfire.rollout.rbac import rbac as objects
    from hotfire.rollout.rollout import home_of
    from hotfire.scenario.loader import load

    located = load(scenario, namespace)
    click.echo(yaml.safe_dump_all(objects(located, home_of(located), only or ""), sort_keys=False), nl=False)


@main.group()
def image() -> None:
    """hotfire's own images, built without Docker: `hotfire` (the watchdog) and `hotfire-load` (the load in the cluster)."""


@image.command("build")
@click.option("--name", help="one recipe alone")
def build_image(name: str | None) -> None:
    """Build the images into the cache and print the folders of their OCI layouts."""
    from hotfire.stand import own
    from hotfire.stand.images import build

    for one in [name] if name else own.IMAGES:
        click.echo(build(one, lambda line: click.echo(line, err=True)))


@image.command("push")
@click.argument("target", metavar="REGISTRY/NAME")
@click.option("--name", help="one recipe alone")
@click.option("--plain-http", is_flag=True, help="the registry speaks HTTP")
def push_image(target: str, name: str | None, plain_http: bool) -> None:
    """Push the images and print their references by digest, for `stand.image` and `stand.load_image`: TARGET itself for
    `hotfire`, TARGET-load for `hotfire-load`.

    Credentials: $HOTFIRE_REGISTRY_AUTH (user:password), else the docker config file ($DOCKER_CONFIG or ~/.docker).
    """
    from hotfire.stand import own
    from hotfire.stand.images import build, push_layout
    from hotfire.stand.registries import registry_of

    registry, repository = registry_of(target, plain_http)
    say = lambda line: click.echo(line, err=True)  # noqa: E731
    for one in [name] if name else own.IMAGES:
        into = repository if name else f"{repository}{one.removeprefix('hotfire')}"
        click.echo(push_layout(registry, build(one, say), into, say=say))


@main.command()
@click.option("--keep", is_flag=True, help="leave the stand running")
@click.option("--reports", type=click.Path(path_type=Path), default=Path("reports"), show_default=True)
@click.option("--only", metavar="SCENARIO", help="one act alone")
def demo(keep: bool, reports: Path, only: str | None) -> None:
    """Run the main job three times on the embedded stand: one GO, two NO_GO restored with proof."""
    from hotfire.demo import demo as play

    raise SystemExit(play(keep=keep, reports=reports, echo=click.echo, only=only))


if __name__ == "__main__":
    main()

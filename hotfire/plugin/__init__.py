"""The pytest plugin: options, refusals, and, when a scenario is given, the session that runs it.

Inert without a scenario, but for one thing: a collected hotfire check without one is a usage error, never a skip.
It holds no rules of its own: what counts is in gates/, what is done is in the packages below.
"""

import sys
import tempfile
from collections.abc import Generator

import pytest

from hotfire.check import ATTRIBUTE

REFUSED_OPTIONS = {  # dest -> how it is written; each can turn a run green without looking, or loses the session's state
    "numprocesses": "-n",
    "tx": "--tx",
    "looponfail": "-f",
    "reruns": "--reruns",
    "lf": "--lf",
    "failedfirst": "--ff",
    "stepwise": "--sw",
    "newfirst": "--nf",
    "setuponly": "--setup-only",
    "setupplan": "--setup-plan",
    "random_order_enabled": "--random-order",
    "random_order_bucket": "--random-order-bucket",
    "random_order_seed": "--random-order-seed",
}
UNASKED = "default:"  # how pytest-random-order marks a value that nobody gave
REFUSED_PLUGINS = ("pytest_randomly", "pytest_rerunfailures", "flaky")  # packages: at work as soon as they are loaded
NEEDED_PLUGINS = ("hotfire-certification", "hotfire-nouns", "assertion")  # without them green means nothing


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hotfire", "rollout certification")
    group.addoption("--hotfire-scenario", metavar="FILE", help="the scenario to run; without it the plugin does nothing")
    group.addoption("--hotfire-kubeconfig", metavar="FILE", help="instead of the scenario's stand.kubeconfig")
    group.addoption("--hotfire-context", metavar="NAME", help="instead of the scenario's stand.context")
    group.addoption("--hotfire-namespace", metavar="NAME", help="instead of the scenario's stand.namespace")
    group.addoption("--hotfire-reports", metavar="DIR", default="reports", help="where the run's folder is made")
    group.addoption("--hotfire-image", metavar="NAME=REF", action="append", default=[], help="use REF for the image NAME")
    group.addoption("--hotfire-watchdog-image", metavar="REF", help="instead of the scenario's stand.image: arms the way back")
    group.addoption("--hotfire-pointer", metavar="FILE", help="write the path of the run's folder here")
    group.addoption("--hotfire-phase", choices=("whole", "arm", "verify"), default="whole", help="how much of a run this is")
    group.addoption("--hotfire-run", metavar="DIR", help="verify: the folder of the run that waits")
    group.addoption("--hotfire-wait", metavar="DURATION", default="0s", help="how long to wait for the workload's lock")


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Before any other plugin's: pytest-xdist's `-f` never comes to configure, it loops over runs of its own."""
    if config.getoption("--hotfire-scenario") is not None:
        refuse(config)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "k8s: options of pytest-kubernetes (it does not register its own marker)")
    if config.getoption("--hotfire-scenario") is None:
        return
    # the run's folder is not known before the run is open, and allure-pytest asks now; the results follow at the end
    scratch = tempfile.TemporaryDirectory(prefix="hotfire-allure-")
    config.add_cleanup(scratch.cleanup)
    config.option.allure_report_dir = scratch.name
    from hotfire.plugin.session import Certification

    config.pluginmanager.register(Certification(config), "hotfire-certification")


def refuse(config: pytest.Config) -> None:
    """Raise UsageError for every way of running that could pass without having looked."""
    asked = {dest: config.getoption(dest, None) for dest in REFUSED_OPTIONS}
    given = [REFUSED_OPTIONS[dest] for dest, value in asked.items() if value and not str(value).startswith(UNASKED)]
    loaded = {getattr(plugin, "__name__", "").partition(".")[0] for plugin in config.pluginmanager.get_plugins()}
    given += [f"the plugin {name}" for name in REFUSED_PLUGINS if name in loaded]
    given += [f"-p no:{name}" for name in NEEDED_PLUGINS if config.pluginmanager.is_blocked(name)]
    if sys.flags.optimize:
        given.append("python -O (asserts do not run)")
    if config.getoption("assertmode", None) == "plain":
        given.append("--assert=plain")
    if given:
        raise pytest.UsageError(f"hotfire does not run with {', '.join(given)}: checks run once, in order, in one process")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if hasattr(getattr(item, "function", None), ATTRIBUTE)]
    if ours and not config.getoption("--hotfire-scenario") and not config.option.collectonly:
        raise pytest.UsageError(f"{ours[0].nodeid} is a hotfire check: give --hotfire-scenario FILE")


def pytest_sessionfinish(session: pytest.Session) -> None:
    looked_only = session.config.option.collectonly
    if looked_only and any(hasattr(getattr(item, "function", None), ATTRIBUTE) for item in session.items):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

"""The nouns of the suites as fixtures. All of them are here; each is made from the run when a check first asks for it."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hotfire.plugin.nouns.candidate import Candidate
from hotfire.plugin.nouns.counted import Counted
from hotfire.plugin.nouns.fault import FaultNoun
from hotfire.plugin.nouns.load import LoadNoun
from hotfire.plugin.nouns.preflight import Preflight
from hotfire.plugin.nouns.rehearsal import Rehearsal
from hotfire.plugin.nouns.rollout import RolloutNoun
from hotfire.plugin.nouns.service import Service
from hotfire.plugin.nouns.settled import Settled
from hotfire.plugin.run import Run
from hotfire.scenario.model import InjectedSecret, Scenario, Slo

RUN = pytest.StashKey[Run]()


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """The run that every noun is of; not for suites."""
    return pytestconfig.stash[RUN]


@pytest.fixture(scope="session")
def scenario(run: Run) -> Scenario:
    """What was asked for."""
    return run.scenario


@pytest.fixture(scope="session")
def preflight(run: Run) -> Preflight:
    """What can be known before anything is touched."""
    return Preflight(run.cluster, run.located, run.namespace)


@pytest.fixture(scope="session")
def rollout(run: Run) -> RolloutNoun:
    """The change itself."""
    return RolloutNoun(run)


@pytest.fixture(scope="session")
def candidate(run: Run) -> Candidate:
    """What was rolled out."""
    return Candidate(run.cluster, run.located, run.namespace, run.anchor, run.applied)


@pytest.fixture
def secret(request: pytest.FixtureRequest) -> InjectedSecret:
    """A Secret key that the server must have and nobody else may see."""
    value: InjectedSecret = request.param
    return value


@pytest.fixture
def service(run: Run, request: pytest.FixtureRequest) -> Service:
    """One API that the candidate serves."""
    client = run.client(request.param)
    return Service(request.param, client, run.scenario.behaviour, run.located.folder)


@pytest.fixture(scope="session")
def rehearsal(run: Run) -> Rehearsal:
    """The way back before the candidate takes load."""
    return Rehearsal(run, "rehearsal")


@pytest.fixture(scope="session")
def load(run: Run) -> LoadNoun:
    """The declared traffic."""
    return LoadNoun(run)


@pytest.fixture
def slo(request: pytest.FixtureRequest) -> Slo:
    """One objective."""
    value: Slo = request.param
    return value


@pytest.fixture(scope="module")
def fault(run: Run, request: pytest.FixtureRequest) -> Iterator[FaultNoun]:
    """One declared failure; its background traffic ends with its last question."""
    noun = FaultNoun(run, request.param, ExitStack())
    yield noun
    noun.close()


@pytest.fixture(scope="session")
def drill(run: Run) -> Rehearsal:
    """The way back after all else was seen."""
    return Rehearsal(run, "drill")


@pytest.fixture
def counted(run: Run, request: pytest.FixtureRequest) -> Counted:
    """What the pods of one API have counted while it served users."""
    return Counted(run, request.param)


@pytest.fixture(scope="session")
def settled(run: Run) -> Settled:
    """How the run ended: settles it, if nothing did before."""
    return Settled(run)

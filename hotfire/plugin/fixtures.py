"""The nouns of the suites as fixtures. All of them are here; each is made from the run when a check first asks for it."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hotfire.plugin.nouns.candidate import Candidate
from hotfire.plugin.nouns.fault import FaultNoun
from hotfire.plugin.nouns.load import LoadNoun
from hotfire.plugin.nouns.preflight import Preflight
from hotfire.plugin.nouns.rollout import RolloutNoun
from hotfire.plugin.nouns.service import Service
from hotfire.plugin.nouns.settled import Settled
from hotfire.plugin.run import Run
from hotfire.scenario.model import InjectedSecret, Scenario, Slo


class Nouns:
    """Registered for one run."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @pytest.fixture(scope="session")
    def scenario(self) -> Scenario:
        """What was asked for."""
        return self.run.scenario

    @pytest.fixture(scope="session")
    def preflight(self) -> Preflight:
        """What can be known before anything is touched."""
        return Preflight(self.run.cluster, self.run.located, self.run.namespace)

    @pytest.fixture(scope="session")
    def rollout(self) -> RolloutNoun:
        """The change itself."""
        return RolloutNoun(self.run)

    @pytest.fixture(scope="session")
    def candidate(self) -> Candidate:
        """What was rolled out."""
        return Candidate(self.run.cluster, self.run.located, self.run.namespace, self.run.anchor)

    @pytest.fixture
    def secret(self, request: pytest.FixtureRequest) -> InjectedSecret:
        """A Secret key that the server must have and nobody else may see."""
        value: InjectedSecret = request.param
        return value

    @pytest.fixture
    def service(self, request: pytest.FixtureRequest) -> Service:
        """One API that the candidate serves."""
        client = self.run.client(request.param)
        return Service(request.param, client, self.run.scenario.behaviour, self.run.located.folder)

    @pytest.fixture(scope="session")
    def load(self) -> LoadNoun:
        """The declared traffic."""
        return LoadNoun(self.run)

    @pytest.fixture
    def slo(self, request: pytest.FixtureRequest) -> Slo:
        """One objective."""
        value: Slo = request.param
        return value

    @pytest.fixture(scope="module")
    def fault(self, request: pytest.FixtureRequest) -> Iterator[FaultNoun]:
        """One declared failure; its background traffic ends with its last question."""
        noun = FaultNoun(self.run, request.param, ExitStack())
        yield noun
        noun.close()

    @pytest.fixture(scope="session")
    def settled(self) -> Settled:
        """How the run ended: settles it, if nothing did before."""
        return Settled(self.run)

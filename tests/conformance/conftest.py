"""Planted runs against the session's one API server."""

import pytest

from tests.control_plane import share
from tests.planted_run import ground

__all__ = ("ground",)


def pytest_configure(config: pytest.Config) -> None:
    share(config)

"""For users of pytest-kubernetes: `k8s` fixtures get the embedded stand (it has no registration hook, so its factory is
overridden here, and nothing else is)."""

import pytest


@pytest.fixture(scope="session")
def k8s_manager(k8s_manager):
    """`embedded`, or no name at all, is ours; every other name is pytest-kubernetes' own."""

    def manager(name=None):
        from hotfire.stand.embedded.manager import EmbeddedManager

        return EmbeddedManager if name in (None, "embedded") else k8s_manager(name)

    return manager

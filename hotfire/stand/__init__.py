"""Where a run takes place: the user's own cluster, one from pytest-kubernetes, or the embedded one."""

"""hotfire certifies a model rollout on Kubernetes and takes it back with proof when a gate fails."""

__version__ = "0.1.0"

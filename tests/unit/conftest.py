"""The runs that reports are tested on, made once."""

from tests.recorded_run import made

__all__ = ("made",)

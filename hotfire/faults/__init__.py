"""The failures, one file per family: inject, witness, undo, and a negative control that must not be seen.

A fault counts only when a witness that is not its injector confirms the effect on the intended target inside the window
(DESIGN promise 2; facts: no-op taxonomy). What cannot be confirmed is INVALID, never a pass.
"""

from hotfire.faults.family import Family
from hotfire.faults.kill import KillOnePod
from hotfire.faults.oom import OomOneContainer

FAMILIES: dict[str, Family] = {"kill": KillOnePod(), "oom": OomOneContainer()}

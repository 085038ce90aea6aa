"""Compiled loops, where numba is installed; every caller has a plain way that does the same."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


@cache
def compiled(module: str) -> ModuleType | None:
    """Load a module of compiled loops when it is first needed; None where it cannot be had.

    That is where numba is not installed, or finds no folder in which to keep what it compiled. Importing numba takes half
    a second and compiling some more, so that callers ask only where the work is worth it.
    """
    if not find_spec("numba"):
        return None
    try:
        return import_module(module)
    except RuntimeError:  # "cannot cache function": neither the package's folder nor the home folder can be written to
        return None

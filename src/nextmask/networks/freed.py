"""What becomes of memory that tensors free."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_TRIM, _MMAP = -1, -3  # names of thresholds in <malloc.h>
_MIB = 2**20


@contextmanager
def keeping_freed() -> Iterator[None]:
    """Keep what a training step frees for the next one, and give it back in the end.

    By itself glibc gives blocks of megabytes back at once, and gets them anew with every step; the system then clears each page
    before it may be written to, for a tenth of a step on a CPU. Other C libraries, and thresholds that were set in the
    environment, are left alone.
    """
    library = _glibc()
    if library is None:
        yield
        return
    _set_thresholds(library, 1024 * _MIB)
    try:
        yield
    finally:
        _set_thresholds(library, 64 * _MIB)  # where glibc stops raising it
        library.malloc_trim(0)


def _set_thresholds(library: Any, kept: int) -> None:
    library.mallopt(_MMAP, 32 * _MIB)  # the largest that it takes
    library.mallopt(_TRIM, kept)


@lru_cache(maxsize=1)
def _glibc() -> Any:
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None

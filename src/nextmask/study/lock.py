"""One process at a time changes a study, and one makes what several need; the others are told, wait, or come back later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

from nextmask.errors import StudyBusy


@contextmanager
def locked(folder: Path, verb: str) -> Iterator[None]:
    """Let one process at a time change a study; tell a second one who is at work."""
    note = folder / ".writer"
    try:
        with FileLock(folder / ".lock", timeout=0):
            note.write_text(f"`nextmask {verb}`, started {time.strftime('%Y-%m-%d %H:%M:%S')}")
            yield
    except Timeout as error:
        # Empty for a moment: between being opened and being written.
        who = (note.read_text() if note.exists() else "") or "its verb was not noted yet"
        raise StudyBusy(
            f"another process works on {folder}: {who}. Expected one writer at a time. Wait for it to end, then run this again."
        ) from error


class Later(Exception):
    """Another process is making what is needed here, and there is other work to do meanwhile."""


_PATIENT: ContextVar[bool] = ContextVar("patient", default=True)


@contextmanager
def patient(wait: bool) -> Iterator[None]:
    """Say whether what is done inside waits where another process makes what it needs, or raises Later."""
    before = _PATIENT.set(wait)
    try:
        yield
    finally:
        _PATIENT.reset(before)


@contextmanager
def one_maker(lock: Path) -> Iterator[None]:
    """Let one process at a time make what several need; a second one waits for it, or raises Later (see `patient`)."""
    try:
        held = FileLock(lock).acquire(blocking=_PATIENT.get())
    except Timeout as error:
        raise Later(lock.name) from error
    with held:
        yield

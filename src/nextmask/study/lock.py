"""One process at a time changes a study; a second one is told who is at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
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

"""What happened in a study: an append-only table of events, each with the hash of the one before.

Nothing is ever changed or deleted, so a study can be audited and replayed. What *is* (rounds, labeled samples) is a fold
over the events, see `nextmask.study.rounds`. Files that an event names are written before the event is committed; a crash
in between leaves a file that nothing refers to, never an event without its file.
"""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nextmask.data.files import canonical
from nextmask.errors import LedgerError

GENESIS = "0" * 64
KINDS = ("created", "queried", "annotated", "dropped", "trained", "evaluated")

_metadata = sa.MetaData()
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.String, nullable=False),
    sa.Column("author", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
)


@dataclass(frozen=True)
class Event:
    """One thing that happened. ``payload`` holds plain types only; ``hash`` covers all the rest and ``previous``."""

    number: int
    time: str
    author: str
    kind: str
    payload: Mapping[str, Any]
    previous: str
    hash: str


class Ledger:
    """The events of one study, in SQLite by default; any database URL of SQLAlchemy will do.

    Two writers cannot interleave: an event is accepted only on top of the head that its writer has read.
    """

    def __init__(self, url: str | Path):
        if isinstance(url, Path):
            url.parent.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{url}"
        self._engine = sa.create_engine(url)
        sqlite = self._engine.dialect.name == "sqlite"
        if sqlite:
            _prepare_sqlite(self._engine)
        if not sa.inspect(self._engine).has_table(_events.name):
            _metadata.create_all(self._engine)
            if sqlite:
                _forbid_changes(self._engine)

    def read(self) -> tuple[Event, ...]:
        """Return all events in order, after checking the chain of hashes.

        Raises:
            LedgerError: an event was altered, removed or put in by other means.
        """
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(_events).order_by(_events.c.number)).all()
        return _verified(rows)

    def append(self, kind: str, payload: Mapping[str, Any], *, after: str, author: str | None = None) -> Event:
        """Add one event on top of the event whose hash is ``after`` (`GENESIS` for the first).

        Raises:
            LedgerError: another process has added an event since.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of event {kind!r}; one of {KINDS}")
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            last = connection.execute(
                sa.select(_events.c.number, _events.c.hash).order_by(_events.c.number.desc()).limit(1)
            ).first()
            number, head = (last.number, last.hash) if last else (0, GENESIS)
            if head != after:
                raise LedgerError(
                    f"the study moved on while this command worked: its last event is number {number}, another one than "
                    "this command started from. Expected one writer at a time. Run the command again."
                )
            event = _event(number + 1, author or _author(), kind, payload, head)
            row = {**vars(event), "payload": canonical(event.payload)}
            connection.execute(_events.insert().values(row))
        return event

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()


def head(events: Sequence[Event]) -> str:
    """Return the hash that the next event goes on top of."""
    return events[-1].hash if events else GENESIS


def _event(number: int, author: str, kind: str, payload: Mapping[str, Any], previous: str) -> Event:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Event(
        number, time, author, kind, payload, previous, _hash(number, time, author, kind, canonical(payload), previous)
    )


def _hash(number: int, time: str, author: str, kind: str, payload: str, previous: str) -> str:
    return hashlib.sha256(canonical([number, time, author, kind, payload, previous]).encode()).hexdigest()


def _verified(rows: Sequence[sa.Row]) -> tuple[Event, ...]:
    events: list[Event] = []
    for expected, row in enumerate(rows, start=1):
        previous = events[-1].hash if events else GENESIS
        true = _hash(row.number, row.time, row.author, row.kind, row.payload, row.previous)
        if row.number != expected or row.previous != previous or row.hash != true:
            raise LedgerError(
                f"the ledger does not verify at event {row.number} ({row.kind}, {row.time}): it was altered outside of "
                "nextmask. Expected an unbroken chain of hashes. Restore ledger.sqlite from a backup."
            )
        events.append(
            Event(row.number, row.time, row.author, row.kind, json.loads(row.payload), row.previous, row.hash)
        )
    return tuple(events)


def _author() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _prepare_sqlite(engine: sa.Engine) -> None:
    """Take the write lock before looking at the head that is written upon, and lose no committed event in a power cut."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are SQLAlchemy's, see "begin" below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=30000")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _forbid_changes(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for action in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS no_{action.lower()} BEFORE {action} ON events "
                "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
            )

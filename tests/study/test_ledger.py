"""The ledger: append-only, chained, one writer at a time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nextmask.errors import LedgerError
from nextmask.study.ledger import GENESIS, Ledger, head


def filled(path: Path) -> Ledger:
    ledger = Ledger(path)
    first = ledger.append("created", {"seed": 1}, after=GENESIS)
    ledger.append("queried", {"round": 1, "samples": ["ä", "b"]}, after=first.hash, author="reader")
    return ledger


def test_events_come_back_as_they_were_written(tmp_path):
    ledger = filled(tmp_path / "ledger.sqlite")
    first, second = ledger.read()
    assert (first.number, first.kind, first.payload, first.previous) == (1, "created", {"seed": 1}, GENESIS)
    assert (second.author, second.payload["samples"], second.previous) == ("reader", ["ä", "b"], first.hash)
    assert head(ledger.read()) == second.hash


def test_a_second_process_reads_what_the_first_wrote(tmp_path):
    filled(tmp_path / "ledger.sqlite").close()
    assert [event.kind for event in Ledger(tmp_path / "ledger.sqlite").read()] == ["created", "queried"]


def test_a_writer_that_read_an_older_head_is_refused(tmp_path):
    ledger = filled(tmp_path / "ledger.sqlite")
    old = ledger.read()[0].hash
    with pytest.raises(LedgerError, match="moved on"):
        Ledger(tmp_path / "ledger.sqlite").append("trained", {"round": 1}, after=old)
    assert len(ledger.read()) == 2


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown kind"):
        Ledger(tmp_path / "ledger.sqlite").append("guessed", {}, after=GENESIS)


@pytest.mark.parametrize("statement", ["UPDATE events SET author = 'x'", "DELETE FROM events"])
def test_nothing_is_changed_or_deleted(tmp_path, statement):
    filled(tmp_path / "ledger.sqlite").close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{\"seed\":2}' WHERE number = 1",
        "UPDATE events SET author = 'someone else' WHERE number = 2",
        "DELETE FROM events WHERE number = 1",
    ],
)
def test_tampering_behind_the_triggers_is_found(tmp_path, statement):
    filled(tmp_path / "ledger.sqlite").close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.executescript(f"DROP TRIGGER no_update; DROP TRIGGER no_delete; {statement};")
    connection.close()
    with pytest.raises(LedgerError, match="does not verify at event"):
        Ledger(tmp_path / "ledger.sqlite").read()

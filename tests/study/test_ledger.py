"""The ledger: append-only, chained, one writer at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
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


def append_many(path: Path, author: str, count: int) -> None:
    ledger = Ledger(path)
    while count:
        with contextlib.suppress(LedgerError):
            ledger.append("queried", {"round": 1}, after=head(ledger.read()), author=author)
            count -= 1


def test_two_processes_that_write_at_once_lose_and_double_nothing(tmp_path):
    """Without the study's lock even: each event goes on top of the head that its writer has read, or is tried again."""
    path = tmp_path / "ledger.sqlite"
    Ledger(path).append("created", {}, after=GENESIS)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=append_many, args=(path, name, 25)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    authors = [event.author for event in Ledger(path).read()[1:]]
    assert sorted(authors) == ["a"] * 25 + ["b"] * 25


def test_reading_does_not_wait_for_a_writer(tmp_path):
    path = tmp_path / "ledger.sqlite"
    filled(path)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert len(Ledger(path).read()) == 2
    writer.close()

"""The list that a radiologist works through."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from nextmask.data.files import digest, write_text
from nextmask.data.pool import Pool
from nextmask.study.rounds import StoredFile

COLUMNS = (
    "sample",
    "case",
    "patient",
    "image",
    "first_slice",
    "last_slice",
    "region_start",
    "region_stop",
    "minutes",
    "reason",
)


def write(
    folder: Path, number: int, pool: Pool, rows: Sequence[int], minutes: Sequence[float], reasons: Sequence[str]
) -> StoredFile:
    """Write the samples of a query as CSV, in the order they were chosen.

    Slices count from 0; viewers that count from 1 show them one higher. Regions are (z, y, x), or (y, x) for pictures.
    ``minutes`` and ``reasons`` go with ``rows``: what a sample will cost, by estimate, and why it is asked for.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, cost, reason in zip(rows, minutes, reasons, strict=True):
        sample, case = pool.samples[row], pool.case_of(row)
        volume = len(sample.region.start) == 3
        first, last = (sample.region.start[0], sample.region.stop[0] - 1) if volume else ("", "")
        start, stop = (" ".join(map(str, corner)) for corner in (sample.region.start, sample.region.stop))
        images = " ".join(str(Path(source).absolute()) for source in case.images)
        writer.writerow([sample.id, case.id, case.patient, images, first, last, start, stop, f"{cost:g}", reason])
    path = f"rounds/{number:02d}/worklist.csv"
    write_text(folder / path, text.getvalue())
    return StoredFile(path, digest(folder / path))

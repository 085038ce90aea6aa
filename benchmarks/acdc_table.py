"""Write ACDC's table with the twelve test patients that no setting was ever chosen on.

    python benchmarks/acdc_table.py DATA TO

DATA holds acdc/; TO is the CSV file to write. Two or three patients of each group are tested on, 33 are the pool. Settings of the
training were chosen on eight others of the pool (docs/log.md); patient074 and patient076 are one exam read twice, and both stay in
the pool.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

TEST = ("011", "015", "031", "036", "052", "059", "063", "065", "071", "085", "091", "098")
FILES = ("image", "mask", "scribble")


def main() -> None:
    """Read the arguments and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("to", type=Path)
    wanted = parser.parse_args()
    write(wanted.data / "acdc", wanted.to)


def write(acdc: Path, to: Path) -> None:
    """Write the table, its paths relative to itself."""
    with (acdc / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    to.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        row["split"] = "test" if row["patient_id"].removeprefix("patient") in TEST else "pool"
        row |= {name: os.path.relpath(acdc / row[name], to.parent) for name in FILES}
    with to.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

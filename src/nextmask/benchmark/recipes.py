"""Recipes: published systems as files of plain settings, filled in with where the images are."""

from __future__ import annotations

import difflib
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextmask.benchmark.grid import BenchmarkConfig
from nextmask.data.files import write_text
from nextmask.errors import StudyError
from nextmask.study.config import as_toml, checked

PLACES = (
    Path(__file__).parents[3] / "benchmarks" / "recipes",  # in a clone
    Path(sys.prefix) / "share" / "nextmask" / "recipes",  # installed
)
PATHS = ("images", "masks", "scribbles")


def recipes() -> dict[str, Path]:
    """Find the files of all recipes, by name."""
    found = (path for place in PLACES if place.is_dir() for path in sorted(place.glob("*.toml")))
    return {path.stem: path for path in reversed(list(found))}


def fill_in(name: str, data: Path, folder: Path) -> tuple[Path, list[str]]:
    """Write the file of a recipe into ``folder``, its images taken from ``data``; return it, and which studies are drawn.

    A study whose images are not below ``data`` is played on drawn patients, where the recipe says how they look.

    Raises:
        StudyError: there is no such recipe, or its images are missing and nothing says what to draw in their place.
    """
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise StudyError(
            f"there is no recipe {name!r}. Expected one of {', '.join(sorted(known))}. "
            + (f"Did you mean {near[0]}?" if near else "See docs/recipes.md.")
        )
    source = known[name].read_text(encoding="utf-8")
    table = tomllib.loads(source)
    placed = {study: _placed(study, values, data) for study, values in table["studies"].items()}
    filled = {**table, "studies": placed}
    checked(BenchmarkConfig, filled, str(known[name]))
    said = "".join(f"{line}\n" for line in source.splitlines() if line.startswith("#"))
    path = folder.resolve() / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, said + "\n" + "".join(f"{key} = {as_toml(value)}\n" for key, value in filled.items()))
    return path, [study for study, values in placed.items() if "synthetic" in values]


def _placed(study: str, values: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Say where the images of a study are; or leave what is to be drawn instead."""
    own = {key: value for key, value in values.items() if key != "synthetic"}
    if (data / own["images"]).exists():
        return {**own, **{key: str((data / own[key]).resolve()) for key in PATHS if key in own}}
    if "synthetic" not in values:
        raise StudyError(
            f"the images of {study!r} are not there: {data / own['images']} is missing. Expected that file. Give the folder that "
            "holds it with --data."
        )
    of_images = (*PATHS, "columns", "classes", "mask_codes", "scribble_codes")
    return {key: value for key, value in values.items() if key not in of_images}

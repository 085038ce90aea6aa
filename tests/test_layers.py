"""Imports point down, never sideways."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "nextmask"

MAY_IMPORT = {
    "errors": set(),
    "data": {"errors"},
    "selection": {"errors", "data"},
    "networks": {"errors", "data"},
    "features": {"errors", "data", "networks"},
    "training": {"errors", "data", "networks"},
    "statistics": {"errors"},
    "study": {"errors", "data", "selection", "networks", "features", "training", "statistics"},
    "benchmark": {"errors", "data", "selection", "networks", "features", "statistics", "study"},
    "console": {"data", "study", "benchmark"},
    "cli": {"errors", "console", "study", "benchmark"},
}
PURE = {"torch", "monai", "pathlib", "logging", "pydantic", "sqlalchemy"}
"""What selection never touches: arrays in, rows out."""


def imported(path: Path) -> set[str]:
    """All modules that a file imports, also inside functions and under TYPE_CHECKING."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.name != "__init__.py" or path.parent != SOURCE]


def layer(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_file_belongs_to_a_layer():
    assert {layer(path) for path in files()} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    own = layer(path)
    used = {name.split(".")[1] for name in imported(path) if name.startswith("nextmask.")}
    assert used <= MAY_IMPORT[own] | {own}


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_torch_stays_where_it_belongs(path):
    tops = {name.split(".")[0] for name in imported(path)}
    if layer(path) == "selection":
        assert not tops & PURE
    elif layer(path) not in ("networks", "features", "training"):
        assert not tops & {"torch", "monai"}


def test_help_does_not_wait_for_torch():
    """`import nextmask.cli` must load neither torch nor monai: they take seconds."""
    code = "import sys, nextmask.cli; print([m for m in ('torch', 'monai', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

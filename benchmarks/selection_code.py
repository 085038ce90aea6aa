"""Fingerprints of the code that a measurement rests on: what did not change need not be measured again."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SELECTION = HERE.parent / "src" / "nextmask" / "selection"
PEERS = [HERE / "selection_peers.py", HERE / "selection_pools.py"]


@cache
def fingerprint(strategy: str, contestant: str) -> str:
    """Hash a contestant's code, without comments and docstrings; of nextmask what the strategy imports, file by file."""
    files = imported_by(strategy) if contestant == "nextmask" else PEERS
    return hashlib.sha256("".join(ast.dump(_bare(file)) for file in files).encode()).hexdigest()[:12]


def imported_by(strategy: str) -> list[Path]:
    """Find the file of a strategy and the files of the selection package that it needs."""
    files = {file.stem: file for file in sorted(SELECTION.rglob("*.py"))}
    waiting = (
        [file.stem for file in (SELECTION / "measures").glob("*.py")] if strategy == "measures" else [_home(strategy)]
    )
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in files:
            continue
        reached.add(name)
        waiting += [
            other for other in _named(ast.parse(files[name].read_text())) if other in files and other not in reached
        ]
    return [files[name] for name in sorted(reached)]


def _home(strategy: str) -> str:
    """Name the file that a strategy is in, or the one that is called like it."""
    from nextmask.selection import STRATEGIES

    function = STRATEGIES.get(strategy)
    return function.__module__.split(".")[-1] if function and hasattr(function, "__module__") else strategy


def _named(tree: ast.Module) -> Iterator[str]:
    """Yield the last parts of what a file imports from the package, and the compiled loops that it asks for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nextmask.selection"):
            yield (node.module or "").split(".")[-1]
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.Constant) and str(node.value).endswith("_loops"):
            yield str(node.value)


def _bare(file: Path) -> ast.Module:
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return tree


def _is_text(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)

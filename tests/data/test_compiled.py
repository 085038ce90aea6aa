"""Compiled loops are a matter of speed, never of whether something works."""

from __future__ import annotations

import pytest

from nextmask.data import compiled as module

LOOPS = "nextmask.selection.geometry.coverage_loops"


@pytest.fixture(autouse=True)
def _fresh():
    module.compiled.cache_clear()
    yield
    module.compiled.cache_clear()


def test_loads_a_module_of_loops():
    loops = module.compiled(LOOPS)
    assert loops is not None
    assert loops.__name__ == LOOPS


def test_without_numba_there_are_none(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.compiled(LOOPS) is None


def test_where_nothing_can_be_cached_there_are_none(monkeypatch):
    def refuse(name):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(module, "import_module", refuse)
    assert module.compiled(LOOPS) is None

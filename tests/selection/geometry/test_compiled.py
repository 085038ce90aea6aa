"""Compiled loops are a matter of speed, never of whether something works."""

from __future__ import annotations

import pytest

from nextmask.selection.geometry import compiled as module


@pytest.fixture(autouse=True)
def _fresh():
    module.compiled.cache_clear()
    yield
    module.compiled.cache_clear()


def test_loads_a_module_of_loops():
    loops = module.compiled("coverage_loops")
    assert loops is not None
    assert loops.__name__.endswith("geometry.coverage_loops")


def test_without_numba_there_are_none(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.compiled("coverage_loops") is None


def test_where_nothing_can_be_cached_there_are_none(monkeypatch):
    def refuse(name):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(module, "import_module", refuse)
    assert module.compiled("coverage_loops") is None

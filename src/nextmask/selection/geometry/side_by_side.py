"""Work on blocks of rows on all cores, with results that do not depend on how many there are."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Like `map`: hands out the results in order."""


@contextmanager
def side_by_side() -> Iterator[Run]:
    """Yield a `map` that runs on as many threads as BLAS may use, while BLAS itself uses one.

    BLAS splits a product by its number of threads, and the last digits follow the split. Blocks of fixed size that are
    each computed by one thread come out the same on every number of cores, and what NumPy does around the product is
    shared between the cores as well. Not to be nested.
    """
    blas = _blas()
    threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as executor:
        yield lambda work, items: _in_order(executor, threads, work, list(items))


def slices(count: int, size: int, start: int = 0) -> list[slice]:
    """Cut start..count into slices of ``size``; the last one may be shorter."""
    return [slice(first, min(first + size, count)) for first in range(start, count, size)]


@cache
def _blas() -> ThreadpoolController:
    # Looking for the libraries takes ten milliseconds; NumPy's own is loaded for good.
    return ThreadpoolController().select(user_api="blas")


def _in_order(
    executor: ThreadPoolExecutor, threads: int, work: Callable[[Any], Any], items: list[Any]
) -> Iterator[Any]:
    if threads == 1 or len(items) == 1:
        return map(work, items)
    return executor.map(work, items)

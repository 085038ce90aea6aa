"""nextmask: which medical images to annotate first, and next; and how good a segmenter they train.

The public names below are loaded when they are first used, so that ``import nextmask`` costs nothing.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "IGNORE": "nextmask.data.pool",
    "Case": "nextmask.data.pool",
    "Pool": "nextmask.data.pool",
    "Region": "nextmask.data.pool",
    "Sample": "nextmask.data.pool",
    "read_image": "nextmask.data.images",
    "read_mask": "nextmask.data.images",
    "write_mask": "nextmask.data.images",
    "read_table": "nextmask.data.table",
    "ENCODERS": "nextmask.features.encoders",
    "STRATEGIES": "nextmask.selection",
    "select": "nextmask.selection.select",
    "Segmenter": "nextmask.training.predict",
    "TrainConfig": "nextmask.training.config",
    "fit": "nextmask.training.train",
    "score_case": "nextmask.training.metrics",
    "NextmaskError": "nextmask.errors",
    "Round": "nextmask.study.rounds",
    "Study": "nextmask.study.study",
    "StudyConfig": "nextmask.study.config",
    "simulate": "nextmask.study.simulate",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nextmask' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__

"""Embeddings of every slice of real data, from the encoders that nextmask has; for `selection.py --sections real`.

    python benchmarks/selection_real.py DATA FOLDER       # DATA holds acdc/ and hippocampus/

The intensity encoder learns nothing. "network" is the encoder half of a segmenter of the size that the study would train,
with the weights that it starts from: a study's own embeddings look like these before and sharper after training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.features.store import EmbeddingStore, embed_pool
from nextmask.networks.unet import build_unet
from nextmask.study.config import FILE, parse_config
from nextmask.study.study import Study
from nextmask.training.config import derive_config
from nextmask.training.predict import Segmenter

STUDIES: dict[str, dict[str, Any]] = {
    "acdc": {"classes": ["rv", "myo", "lv"], "scribble_codes": {"4": "ignore"}},
    "hippocampus": {"classes": ["anterior", "posterior"], "columns": {"patient": "subject_group"}},
}
"""Settings of each data set; the smallest test share leaves nearly all of it in the pool."""


def real_pools(data: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and .npy file of each data set's embeddings by each encoder; those that lie there are not made again."""
    for name, settings in STUDIES.items():
        table = data / name / "cases.csv"
        if not table.exists():
            print(f"{table} is not there: {name} is left out", flush=True)
            continue
        missing = [encoder for encoder in ENCODERS if not (folder / f"{name}-{encoder}.npy").exists()]
        study = study_of(folder / f"{name}-study", table, settings) if missing else None
        for encoder, embedded in ENCODERS.items():
            path = folder / f"{name}-{encoder}.npy"
            if study and encoder in missing:
                np.save(path, embedded(study, folder))
            yield f"{name} slices, {encoder}", path


def study_of(home: Path, table: Path, settings: dict[str, Any]) -> Study:
    """Make a study of a data set's slices, or find it made."""
    if not (home / FILE).exists():
        asked = {"images": str(table.resolve()), "unit": "slice", "test_fraction": 0.05, **settings}
        Study.create(home, parse_config(asked))
    return Study(home)


def by_intensity(study: Study, folder: Path) -> np.ndarray:
    """Embed every slice by its histogram and thumbnail."""
    return embed_pool("intensity", study.labels.image, len(study.pool), study.folder.name, EmbeddingStore(folder))


def by_network(study: Study, folder: Path) -> np.ndarray:
    """Embed every slice by a network that has seen nothing yet."""
    config = derive_config(
        study.labels.shapes(), study.cohort.scans[0].channels, len(study.config.classes) + 1, dimensions=2, device="cpu"
    )
    segmenter = Segmenter(config, build_unet(config, config.classes).eval())
    key = f"{study.folder.name}, untrained"
    return embed_pool("network", study.labels.image, len(study.pool), key, EmbeddingStore(folder), segmenter=segmenter)


ENCODERS: dict[str, Callable[[Study, Path], np.ndarray]] = {"intensity": by_intensity, "network": by_network}

if __name__ == "__main__":
    for pool, where in real_pools(Path(sys.argv[1]), Path(sys.argv[2])):
        print(pool, np.load(where, mmap_mode="r").shape)

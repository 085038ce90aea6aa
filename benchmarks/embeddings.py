"""What each encoder knows of anatomy, without labels; writes embeddings.csv and the table of embeddings.md.

    python benchmarks/embeddings.py DATA RUNS [--only acdc] [--encoders intensity,restoration] [--iterations 1500]

DATA is a folder with acdc/ and hippocampus/; RUNS is where the studies of `real_runs.py` lie or go. Encoders see the images of
the pool, never a mask; masks of the *pool* say afterwards what an embedding knows. Test patients take no part. Interrupt it as
you like: the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, silhouette_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nextmask.data.images import read_mask
from nextmask.features.encoders import standardised
from nextmask.features.store import EmbeddingStore, embed_pool
from nextmask.networks.unet import build_unet
from nextmask.study.study import Study
from nextmask.training.predict import Segmenter

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from real_runs import ACDC, HIPPOCAMPUS, acdc_table, make_study, tell  # noqa: E402

MARKS = ("<!-- table: written by embeddings.py -->", "<!-- end of table -->")
UNTRAINED = "untrained"
ENCODERS = (
    "intensity",
    UNTRAINED,
    "restoration",
    "restoration_2x2",
    "reconstruction",
    "contrastive",
    "group_contrastive",
)
NEIGHBOURS = 5
FOLDS = 5
Row = dict[str, Any]


def main() -> None:
    """Embed what is missing, measure everything, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", choices=["acdc", "hippocampus"], action="append")
    parser.add_argument("--encoders", default=",".join(ENCODERS))
    parser.add_argument("--iterations", type=int, default=1500, help="of each pretraining (%(default)s)")
    wanted = parser.parse_args()
    for name in wanted.only or ["acdc", "hippocampus"]:
        study = study_of(name, wanted.data, wanted.runs, wanted.iterations)
        for encoder in wanted.encoders.split(","):
            started = time.monotonic()
            embeddings = embedded(study, encoder)
            seconds = round(time.monotonic() - started, 1)
            row = {"data": name, "encoder": encoder, "iterations": wanted.iterations, "seconds": seconds}
            record(row | measured(study, embeddings))
    write_table()


def study_of(name: str, data: Path, runs: Path, iterations: int) -> Study:
    """Open the study of a data set, with pretrainings of so many iterations."""
    settings = ACDC if name == "acdc" else HIPPOCAMPUS
    images = acdc_table(data, runs) if name == "acdc" else data / settings["images"]
    chosen = {**settings, "images": str(images.resolve()), "pretraining": {"iterations": iterations}}
    return Study(make_study(runs / f"{name}-{iterations}", chosen), report=tell)


def embedded(study: Study, encoder: str) -> np.ndarray:
    """Embed the pool; "untrained" is the segmenter's contracting half with the weights that it starts from."""
    if encoder != UNTRAINED:
        return study.embed(encoder).array
    config = study._trainer.derived()  # the very network that a training would begin with
    segmenter = Segmenter(config, build_unet(config, config.classes).eval())
    store = EmbeddingStore(study.folder / study.config.cache / "untrained")
    return embed_pool("network", study.labels.image, len(study.pool), "untrained", store, segmenter=segmenter)


def measured(study: Study, embeddings: np.ndarray) -> Row:
    """Measure what embeddings know of each sample; a linear probe is always tested on patients that it has not seen."""
    pool = study.pool
    columns = [pool.case_of(row).columns | {"group": pool.case_of(row).group} for row in range(len(pool))]
    found: Row = {"samples": len(pool), "dims": embeddings.shape[1]} | retrieval(study, embeddings, columns)
    inputs = standardised(embeddings)
    if len(np.unique(pool.position)) > 1:
        found["position_r2"] = r2(inputs, pool.position, pool.patient)
    for label, share in zip(study.config.classes, shares(study).T, strict=True):
        found[f"{label}_r2"] = r2(inputs, share, pool.patient)
    groups = np.array([each["group"] for each in columns])
    if len(set(groups)) > 1:
        found["group_accuracy"] = accuracy(inputs, groups, pool.patient)
        found["group_chance"] = 1 / len(set(groups))
    if 3 * len(np.unique(pool.patient)) < len(pool):
        found["silhouette_patient"] = silhouette_score(embeddings, pool.patient)
    return found


def retrieval(study: Study, embeddings: np.ndarray, columns: list[dict[str, str]]) -> Row:
    """Look at each sample's nearest neighbours in other volumes: are they of its patient; elsewhere, alike in place and phase?"""
    pool, found = study.pool, {}
    order = NearestNeighbors(n_neighbors=len(pool) - 1).fit(embeddings).kneighbors(return_distance=False)
    by_volume, by_patient = pool.volume[order] == pool.volume[:, None], pool.patient[order] == pool.patient[:, None]
    nearest = first(order, ~by_volume, 1)[:, 0]
    has_another = np.array(
        [(pool.patient[pool.volume != v] == p).any() for p, v in zip(pool.patient, pool.volume, strict=True)]
    )
    if has_another.any():
        found["same_patient"] = float((pool.patient[nearest] == pool.patient)[has_another].mean())
        found["same_patient_chance"] = chance(pool.patient, pool.volume, has_another)
    others = first(order, ~by_patient, NEIGHBOURS)
    if len(np.unique(pool.position)) > 1:
        found["position_error"] = float(np.abs(pool.position[others] - pool.position[:, None]).mean())
        found["position_error_chance"] = float(np.abs(pool.position[:, None] - pool.position).mean())
    phases = np.array([each.get("phase", "") for each in columns])
    if len(set(phases)) > 1:
        found["same_phase"] = float((phases[others] == phases[:, None]).mean())
    return found


def first(order: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Take the first ``count`` allowed neighbours of each sample."""
    return np.array([row[keep][:count] for row, keep in zip(order, allowed, strict=True)])


def chance(patient: np.ndarray, volume: np.ndarray, among: np.ndarray) -> float:
    """Find how often a random sample of another volume is of the same patient."""
    each = [
        (patient[volume != v] == p).mean() for p, v in zip(patient[among].tolist(), volume[among].tolist(), strict=True)
    ]
    return float(np.mean(each))


def shares(study: Study) -> np.ndarray:
    """Compute each sample's share of voxels of each class, (samples, classes), from the pool's masks."""
    pool, cache = study.pool, study.labels.cache
    masks = {}
    for number, case in enumerate(pool.cases):
        codes = study.config.mask_codes
        full = read_mask(Path(case.mask or ""), codes)[0] if codes else read_mask(Path(case.mask or ""))[0]
        masks[number] = cache.mask(number, f"truth-{case.id}", lambda full=full: full)
    cut = [masks[sample.case][study.labels.region(row)] for row, sample in enumerate(pool.samples)]
    return np.array([[(mask == label + 1).mean() for label in range(len(study.config.classes))] for mask in cut])


def r2(inputs: np.ndarray, target: np.ndarray, patient: np.ndarray) -> float:
    """Explain a number linearly, in patients left out: share of variance explained; below 0 is worse than the mean."""
    predicted = np.empty(len(target))
    for train, test in GroupKFold(FOLDS).split(inputs, target, patient):
        # The shrinkage too is chosen by patients left out: slices of one patient are too alike to tell.
        inner = list(GroupKFold(FOLDS - 1).split(inputs[train], target[train], patient[train]))
        search = GridSearchCV(Ridge(), {"alpha": np.logspace(0, 7, 15)}, cv=inner).fit(inputs[train], target[train])
        predicted[test] = search.predict(inputs[test])
    return float(1 - ((target - predicted) ** 2).mean() / target.var())


def accuracy(inputs: np.ndarray, target: np.ndarray, patient: np.ndarray) -> float:
    """Name a group linearly, in patients left out: balanced accuracy."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, class_weight="balanced"))
    probe = probe if len(set(target)) > 1 else DummyClassifier()
    predicted = cross_val_predict(probe, inputs, target, groups=patient, cv=GroupKFold(FOLDS))
    return float(balanced_accuracy_score(target, predicted))


def record(row: Row) -> None:
    """Put a row into embeddings.csv, in the place of one of the same data, encoder and length."""
    path = HERE / "embeddings.csv"
    kept = [
        old for old in recorded() if any(str(old[key]) != str(row[key]) for key in ("data", "encoder", "iterations"))
    ]
    rows = [*kept, row]
    names = list(dict.fromkeys(name for each in rows for name in each))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([{name: shown(each.get(name, "")) for name in names} for each in rows])
    print(row, flush=True)


def shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def recorded() -> Iterator[Row]:
    """Read embeddings.csv."""
    path = HERE / "embeddings.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            yield from list(csv.DictReader(file))


def write_table() -> None:
    """Write the tables of embeddings.md between their marks: one a data set, a line an encoder."""
    path, lines = HERE / "embeddings.md", list[str]()
    rows = list(recorded())
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [{name: value for name, value in row.items() if value != ""} for row in rows if row["data"] == data]
        names = [
            name for name in dict.fromkeys(n for row in own for n in row) if name not in ("data", "seconds", "samples")
        ]
        lines += [
            f"### {data}, {own[0]['samples']} samples",
            "",
            f"| {' | '.join(names)} |",
            "| --- " * len(names) + "|",
        ]
        lines += [f"| {' | '.join(brief(row.get(name, '')) for name in names)} |" for row in own] + [""]
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    path.write_text(f"{before}{MARKS[0]}\n\n" + "\n".join(lines) + f"\n{MARKS[1]}{after}", encoding="utf-8")


def brief(value: str) -> str:
    return f"{float(value):.3f}" if "." in value else value


if __name__ == "__main__":
    main()

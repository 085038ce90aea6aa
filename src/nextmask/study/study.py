"""A study: rounds over one pool, in one folder. query, annotate, train and evaluate are the only way to change it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.data.cache import Cache
from nextmask.data.files import Progress, digest, discard_temporaries
from nextmask.data.pool import IGNORE, Pool, Sample, build_pool
from nextmask.data.preprocess import Preprocessing, derive
from nextmask.data.proxy_masks import parse_proxy
from nextmask.errors import DataError, StudyError
from nextmask.selection.types import Strategy
from nextmask.study import worklist
from nextmask.study.agreement import agreement
from nextmask.study.annotations import (
    AnnotationReport,
    Annotator,
    Drawn,
    MaskFolder,
    count_drawn,
    fit_to_case,
    store_mask,
)
from nextmask.study.cohort import CASES, SPLITS, Cohort, make_cohort, read_cohort
from nextmask.study.config import StudyConfig, read_config, refuse_changed, write_config
from nextmask.study.cost import estimated_minutes
from nextmask.study.embeddings import Describer, Embedder, Embedding, Report
from nextmask.study.evaluation import Task, evaluate
from nextmask.study.evidence import Evidence
from nextmask.study.inference import PLAIN
from nextmask.study.labels import Labels
from nextmask.study.learners import choose_learner, learner_named, trained_by
from nextmask.study.ledger import Event, Ledger, head
from nextmask.study.lock import locked
from nextmask.study.new_images import Grid, list_images, of_new_images
from nextmask.study.oracle import Truth
from nextmask.study.order import refuse_unfinished, same_query, trainable
from nextmask.study.predictions import PredictionReport, all_cases, awaited, by_case, write_predictions
from nextmask.study.proxy import ProxySegmenter
from nextmask.study.pseudo import PseudoLabels
from nextmask.study.request import Request, answer, check_amount, find_strategy, recorded, with_class_names
from nextmask.study.rounds import Round, StoredFile, fold, segmenters_of
from nextmask.study.training import Trainer
from nextmask.study.trust import gain_after
from nextmask.study.versions import versions

if TYPE_CHECKING:
    from nextmask.training.learner import Learner


class Study:
    """Rounds over one pool, in one folder.

    Open one with ``Study(folder)``, make one with `Study.create`; either takes a ``learner`` of one's own. Each verb does its
    work under the study's lock, writes its files, and then adds its event to the ledger; called again after a crash, it goes
    on where it was.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        learner: Learner | None = None,
        report: Report | None = None,
        truth: Truth | None = None,
    ):
        """Open a study; ``truth`` is handed in by a simulation only, for what says that it looks at it."""
        self.folder = Path(folder)
        self.config = read_config(self.folder)
        self._own_learner, self._report, self._truth = learner, report, truth
        self._ledger = Ledger(self.folder / "ledger.sqlite")
        if not self.events:
            raise StudyError(
                f"the study in {self.folder} was not finished being made. Expected a list of cases and a split. "
                "Run the same `nextmask new` again; files that were read already are not read again."
            )
        refuse_changed(self.config, self.events[0].payload["config"])
        self._refuse_changed_files()

    @classmethod
    def create(
        cls,
        folder: Path | str,
        config: StudyConfig,
        *,
        learner: Learner | None = None,
        cohort: Cohort | None = None,
        report: Report | None = None,
    ) -> Study:
        """Make a study: read all files, split by patient, derive the preprocessing, and write it all down.

        A ``cohort`` that is given is taken as it is (a simulation shares the cases and the split of its study).

        Raises:
            StudyError: there is a study already, or no usable case.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, "new"):
            ledger = Ledger(folder / "ledger.sqlite")
            if ledger.read():
                raise StudyError(
                    f"there is a study in {folder} already. Expected a new folder. Choose another name, or delete that "
                    "folder if nothing in it is of use."
                )
            write_config(folder, config)
            cohort = cohort or make_cohort(folder, config, _labelled(report, "reading images"))
            ledger.append("created", _created(folder, config, cohort), after=head(()))
            ledger.close()
        return cls(folder, learner=learner, report=report)

    # -- what is -----------------------------------------------------------------------------------------------------

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that has happened, oldest first."""
        return self._ledger.read()

    @property
    def rounds(self) -> tuple[Round, ...]:
        """All rounds so far, the latest last."""
        return fold(self.events)

    @cached_property
    def cohort(self) -> Cohort:
        """All usable cases."""
        return read_cohort(self.folder)

    @cached_property
    def pool(self) -> Pool:
        """The samples that may be queried; row i of every array is sample i."""
        part = self.cohort.on("pool")
        return build_pool(
            part.cases, [scan.shape for scan in part.scans], self.config.unit, self.config.box, self.config.box_stride
        )

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How images are brought to the working grid, as derived when the study was made."""
        return Preprocessing.from_json(self.events[0].payload["preprocessing"])

    @property
    def planar(self) -> bool:
        """Say whether samples are two-dimensional: slices or pictures."""
        return self.config.unit == "slice" or len(self.cohort.scans[0].shape) == 2

    @cached_property
    def device(self) -> str:
        """The device that networks run on, as PyTorch names it."""
        from nextmask.networks.device import choose_device

        return choose_device(self.config.device)

    @property
    def labeled(self) -> np.ndarray:
        """Say for every sample whether it was dealt with: annotated, or dropped with a reason; bool (samples,)."""
        labeled = np.zeros(len(self.pool), bool)
        for round in self.rounds:
            labeled[[self.pool.row_of[name] for name in (*round.masks, *round.dropped)]] = True
        return labeled

    @property
    def askable(self) -> np.ndarray:
        """Say which samples may still be asked for; bool (samples,). Boxes that overlap labeled ones no longer may."""
        return ~(self.pool.overlapping(self.labeled) if self.config.box_stride else self.labeled)

    @cached_property
    def labels(self) -> Labels:
        """What samples look like on the working grid."""
        return Labels(self.folder, self.pool, self.cache("pool"), planar=self.planar)

    def cache(self, side: str) -> Cache:
        """Preprocessed images of the pool or of the test cases."""
        part = self.cohort.on(side)
        return Cache(self.folder / self.config.cache, part.cases, part.scans, self.preprocessing, planar=self.planar)

    def path(self, file: StoredFile) -> Path:
        """Find a file that the ledger names, unchanged.

        Raises:
            StudyError: it is gone, or is not what it was.
        """
        path = self.folder / file.path
        if not path.is_file() or digest(path) != file.sha256:
            state = "was changed" if path.is_file() else "is missing"
            raise StudyError(
                f"{path} {state} since the ledger recorded it. Expected the file as it was written. Restore it from a backup."
            )
        return path

    def load_segmenter(self, file: StoredFile) -> Any:
        """Open a segmenter that the ledger names, on the study's device, by the learner that trained it."""
        learner = learner_named(trained_by(self.rounds, file), self._own_learner)
        return learner.load(self.path(file), self.device)

    # -- the verbs ---------------------------------------------------------------------------------------------------

    def query(
        self,
        n: int | None = None,
        strategy: str | Strategy = "typiclust",
        *,
        minutes: float | None = None,
        per_patient: int | None = None,
        per_volume: int | None = None,
        spacing: int | None = None,
        **options: Any,
    ) -> Round:
        """Ask which samples should be annotated next, and why each.

        As long as the latest query waits for all of its masks, asking for the same again returns that query.

        Args:
            n: how many samples to ask for; or else
            minutes: how long annotating them may take, by the estimate of `minutes_per_image` and `minutes_per_slice`.
            strategy: a name of `STRATEGIES`, or a function of one's own.
            per_patient: most samples of one patient in this query.
            per_volume: most samples of one case in this query.
            spacing: fewest slices from one slice of a case that is asked for to the next, now or in earlier rounds.
            options: keywords of the strategy.

        Raises:
            StudyError: the latest round has masks still missing, or is not trained on yet.
            SelectionError: more is asked for than there is, or the strategy does not exist.
        """
        with self._writing("query") as events:
            rounds = fold(events)
            chosen, name = find_strategy(strategy)
            check_amount(n, minutes)
            limits: dict[str, Any] = {"per_patient": per_patient, "per_volume": per_volume, "spacing": spacing}
            limits = {name: value for name, value in limits.items() if value is not None}
            asked = Request(name, n, minutes, limits, options, apart=self.config.box_stride is not None)
            if rounds and not rounds[-1].masks and not rounds[-1].dropped:
                return same_query(rounds[-1], asked)
            refuse_unfinished(rounds)
            payload = self._choose(asked, chosen, len(rounds) + 1, rounds[-1].segmenter if rounds else None)
            self._ledger.append("queried", payload, after=head(events))
        return self.rounds[-1]

    def embed(self, encoder: str | None = None, compute: Callable[[int], np.ndarray] | None = None) -> Embedding:
        """Place every sample of the pool by an encoder, the study's own if none is named; pretrain it where it needs that.

        Nothing enters the ledger: queries make what they need themselves, and find what was made. ``compute``, row ->
        vector, stands in for the encoder where other processes run it, as in `nextmask.benchmark.shards`.

        Raises:
            SelectionError: the encoder does not exist, or a setting of its pretraining.
        """
        found = self.describer(encoder)
        return Embedding(self._embedder.collect(found, compute), found.used)

    def describer(self, encoder: str | None = None) -> Describer:
        """Open what describes samples by an encoder, its network loaded; for those who share the work among processes."""
        segmenter = self.rounds[-1].segmenter if self.rounds else None
        return self._embedder.describer(encoder or self.config.encoder, segmenter, self.load_segmenter)

    def annotate(
        self,
        annotator: Annotator | Path | str,
        *,
        replace: bool = False,
        untouched: bool = False,
        author: str | None = None,
    ) -> AnnotationReport:
        """Take in masks of the samples that were asked for; each one that is in order is kept, whatever the others are.

        Args:
            annotator: a folder of masks, or anything that returns the mask of a sample.
            replace: also take masks that differ from those of samples annotated before (a correction).
            untouched: also take masks of a folder that are still as `predict` wrote them.
            author: who drew them; the user of this computer if not given.
        """
        if isinstance(annotator, Path | str):
            annotator = self._mask_folder(Path(annotator), untouched)
        with self._writing("annotate") as events:
            rounds = fold(events)
            if not rounds:
                raise StudyError("nothing was asked for yet. Expected a query. Run `nextmask query` first.")
            wanted = [(round, name) for round in rounds for name in round.samples if replace or name in round.missing]
            outcome = self._take_in(annotator, wanted, author)
        if isinstance(annotator, MaskFolder):
            outcome |= {"unused": annotator.unused(), "untouched": tuple(annotator.untouched)}
        return AnnotationReport(**outcome)

    def drop(self, samples: Mapping[str, str], *, author: str | None = None) -> Round:
        """Give up samples of the queries so far, each with the reason why it cannot be annotated."""
        with self._writing("annotate") as events:
            of_sample = {name: round.number for round in fold(events) for name in round.samples}
            last = head(events)
            for name, reason in samples.items():
                if name not in of_sample:
                    raise StudyError(f"{name!r} was never asked for. Expected a sample of a query. See the worklist.")
                payload = {"round": of_sample[name], "sample": name, "reason": reason}
                last = self._ledger.append("dropped", payload, after=last, author=author).hash
        return self.rounds[-1]

    def train(self, *, partial: bool = False) -> Round:
        """Train a new segmenter on all masks so far, from the weights that the setting `start` names.

        Where the same training was done before by a study with the same cache, its segmenter is taken.

        Args:
            partial: train although some samples of the latest query have no mask yet.
        """
        with self._writing("train") as events:
            rounds = fold(events)
            round = trainable(rounds, partial)
            if round.segmenter is None:
                self._ledger.append("trained", self._trainer.train(rounds, round.number), after=head(events))
        return self.rounds[-1]

    def evaluate(self) -> Round:
        """Measure the latest segmenter on the test cases, each on its image's own grid.

        What was measured already stays, unless `turned_views` or `largest_component` have changed since.
        """
        with self._writing("evaluate") as events:
            rounds = fold(events)
            segmenter = rounds[-1].segmenter if rounds else None
            if segmenter is None:
                raise StudyError(
                    "there is no segmenter to evaluate. Expected a trained round. Run `nextmask train` first."
                )
            round, how = rounds[-1], self.config.inference.plain()
            # Earlier ledgers do not say how scores were made: where the settings ask for anything, they are made once more.
            if round.scores is not None and round.evaluation.get("inference", PLAIN.plain()) == how:
                return round
            relative = f"rounds/{round.number:02d}"
            task = Task(
                self.folder / relative,
                self.folder / self.config.cache / "scores",
                self.cohort.on("test"),
                self.cache("test"),
                self.config.classes,
                self.config.mask_codes,
                segmenter,
                self.load_segmenter,
                self.config.measure,
                self.config.inference,
            )
            started = time.monotonic()
            result = evaluate(task, self._told(f"round {round.number}: evaluating"))
            moved = agreement(self.labels, self.folder / self.config.cache / "agreement", rounds, self.load_segmenter)
            result |= {"gain": gain_after(rounds, result["scores"], int(self.askable.sum())), "agreement": moved}
            result |= {"inference": how, "seconds": _since(started)}
            payload = {"round": round.number, "path": f"{relative}/scores.csv", **result}
            self._ledger.append("evaluated", payload, after=head(events))
        return self.rounds[-1]

    def predict(self, folder: Path | str, what: str = "query", *, images: Path | str | None = None) -> PredictionReport:
        """Write masks as the latest segmenter sees them: to be corrected and taken in by `annotate`, or to be used.

        Args:
            folder: where they go. What is there already stays as it is.
            what: "query", the samples whose masks are awaited, a file each; "pool" or "test", all cases of it.
            images: in place of ``what``, images that are not of the study: a table, folder or glob as for `Study.create`.
        """
        if what not in ("query", "pool", "test"):
            raise StudyError(f"{what!r} cannot be predicted. Expected query, pool or test. Choose one of them.")
        rounds = self.rounds
        if not (segmenters := segmenters_of(rounds)):
            raise StudyError(
                "there is no segmenter to predict with. Expected a trained round. Run `nextmask train` first."
            )
        if images is not None:
            return self._predict_new(Path(folder), images, segmenters[-1])
        cache = self.labels.cache if what == "query" else self.cache(what)
        wanted = awaited(self.pool, rounds) if what == "query" else all_cases(cache.cases)
        of_case = by_case(self.load_segmenter(segmenters[-1]), cache, self.config.inference)
        return write_predictions(Path(folder), wanted, cache.cases, of_case, self._told("predicting"))

    def _predict_new(self, folder: Path, images: Path | str, segmenter: StoredFile) -> PredictionReport:
        cases, missing = list_images(images, self.config.columns)
        grid = Grid(self.preprocessing, self.planar, self.cohort.scans[0])
        of_case = of_new_images(self.load_segmenter(segmenter), cases, grid, self.config.inference)
        made = write_predictions(folder, all_cases(cases), cases, of_case, self._told("predicting"))
        return replace(made, problems=(*missing, *made.problems))

    # -- inner parts -------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, verb: str) -> Iterator[tuple[Event, ...]]:
        with locked(self.folder, verb):
            for folder in (self.folder, self.folder / "masks", *self.folder.glob("rounds/*")):
                discard_temporaries(folder)
            yield self._ledger.read()

    def _told(self, what: str) -> Progress | None:
        return _labelled(self._report, what)

    def _refuse_changed_files(self) -> None:
        for name, expected in self.events[0].payload["files"].items():
            path = self.folder / name
            if not path.is_file() or digest(path) != expected:
                raise StudyError(
                    f"{path} was changed or removed since the study was made. Expected the split and the cases to stay as "
                    "they are, because every result rests on them. Restore the file, or create a new study."
                )

    @property
    def _embedder(self) -> Embedder:
        return Embedder(
            self.pool,
            self.labels,
            self.folder / self.config.cache,
            self.planar,
            self.device,
            self.config.pretraining,
            self.folder,
            self.config.region,
            parse_proxy(self.config.proxy) if self.config.proxy else None,
            self._truth,
            self._report,
        )

    def _evidence(self, segmenter: StoredFile | None) -> Evidence:
        return Evidence(
            self._embedder,
            estimated_minutes(self.pool, self.config),
            encoder=self.config.encoder,
            measure=self.config.measure,
            segmenter=segmenter,
            load=self.load_segmenter,
            labeled=self.labeled,
            seed=self.config.seed,
            classes=len(self.config.classes) + 1,
            proxy=self._proxy,
            truth=self._truth,
            report=self._report,
        )

    @property
    def _proxy(self) -> ProxySegmenter | None:
        if self.config.proxy is None:
            return None
        return ProxySegmenter(
            parse_proxy(self.config.proxy),
            self.labels,
            self.folder / self.config.cache / "encoders",
            lambda: self._trainer.derived(),
            self.device,
            told=self._told("training the proxy segmenter"),
        )

    def _choose(
        self, request: Request, strategy: Strategy, number: int, segmenter: StoredFile | None
    ) -> dict[str, Any]:
        """Ask the strategy, write the worklist, and return what the ledger should know of the query."""
        started = time.monotonic()
        evidence = self._evidence(segmenter)
        rng = np.random.default_rng([self.config.seed, number])
        query = with_class_names(answer(request, strategy, evidence.mapping(), self.labeled, rng), self.config.classes)
        rows = query.rows.tolist()
        cost = estimated_minutes(self.pool, self.config)[rows]
        listed = worklist.write(self.folder, number, self.pool, rows, cost, query.reasons or [""] * len(rows))
        return {
            "round": number,
            **request.to_json(),
            "samples": [self.pool.samples[row].id for row in rows],
            **recorded(query),
            "cost": float(cost.sum()),
            "used": evidence.used,
            "worklist": vars(listed),
            "seconds": _since(started),
        }

    def _mask_folder(self, folder: Path, untouched: bool) -> MaskFolder:
        part = self.cohort.on("pool")
        geometries = {case.id: scan.geometry for case, scan in zip(part.cases, part.scans, strict=True)}
        codes = self.config.scribble_codes if self.config.supervision == "scribble" else self.config.mask_codes
        return MaskFolder(folder, geometries, codes, untouched=untouched)

    def _take_in(self, annotator: Annotator, wanted: list[tuple[Round, str]], author: str | None) -> dict[str, Any]:
        stored, unchanged, missing, refused, outside, last = [], [], [], {}, {}, head(self.events)
        for done, (round, name) in enumerate(wanted, start=1):
            try:
                taken = self._store(annotator, self.pool.samples[self.pool.row_of[name]])
            except DataError as error:
                refused[name] = str(error)
                continue
            if taken is None:
                missing.append(name)
            elif round.masks.get(name) == taken[0]:
                unchanged.append(name)
            else:
                payload = {"round": round.number, "sample": name, **vars(taken[0]), **taken[1]}
                last = self._ledger.append("annotated", payload, after=last, author=author).hash
                stored.append(name)
                if beyond := taken[1].get("outside"):
                    outside[name] = beyond / taken[1]["foreground"]
            if self._report:
                self._report("taking in masks", done, len(wanted))
        found = {"stored": tuple(stored), "unchanged": tuple(unchanged), "missing": tuple(missing)}
        return {**found, "refused": refused, "outside": outside}

    def _store(self, annotator: Annotator, sample: Sample) -> tuple[StoredFile, dict[str, Any]] | None:
        """Store the mask of a sample; return its file, and what the ledger should know of it besides."""
        case = self.pool.cases[sample.case]
        drawn = annotator(case, sample)
        if drawn is None:
            return None
        mask = drawn.mask if isinstance(drawn, Drawn) else drawn
        where = self.labels.cache.placements[sample.case]
        full = fit_to_case(mask, sample, where.full, len(self.config.classes))
        if (full == IGNORE).all():  # a template that nobody has drawn in yet
            return None
        known = {"minutes": round(drawn.minutes, 3)} if isinstance(drawn, Drawn) else {}
        foreground = count_drawn(full)
        if beyond := foreground - count_drawn(full[where.box]):
            known["outside"] = beyond
        return store_mask(self.folder, full, case, sample), {"foreground": foreground, **known}

    @property
    def _trainer(self) -> Trainer:
        return Trainer(
            self.folder,
            self.config,
            choose_learner(self.config.learner, self._own_learner),
            self.labels,
            self._embedder,
            self.device,
            self.preprocessing.intensity == "rgb",
            self.path,
            self.load_segmenter,
            lambda segmenter: PseudoLabels(self.labels, self._evidence(segmenter), self.labeled),
            self._told,
        )


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _labelled(report: Report | None, what: str) -> Progress | None:
    return None if report is None else partial(report, what)


def _created(folder: Path, config: StudyConfig, cohort: Cohort) -> dict[str, Any]:
    from nextmask.networks.device import choose_device, working_limit

    pool = cohort.on("pool")
    if not pool.cases:
        raise StudyError(
            "no case is in the pool. Expected at least one that is not for testing. Mend the split column."
        )
    if config.unit == "box" and config.field_of_view is not None:
        raise StudyError(
            'unit = "box" with a field_of_view: boxes would be asked for that no network sees. Expected one of the two. '
            "Leave field_of_view out."
        )
    planar = config.unit == "slice" or len(pool.scans[0].shape) == 2
    limit = config.working_size or working_limit(choose_device(config.device), planar)
    if "z" in config.coordinates and len(pool.scans[0].shape) == 2:
        raise StudyError(
            'coordinates = ["z"], and the images are pictures of two axes. Expected some of "y" and "x". Leave "z" out.'
        )
    derived = derive(
        pool.scans,
        planar=planar,
        limit=limit,
        window=config.window,
        field=config.field_of_view,
        coordinates=config.coordinates,
    )
    return {
        "config": config.model_dump(mode="json"),
        "content": cohort.content(),
        "files": {name: digest(folder / name) for name in (CASES, SPLITS)},
        "preprocessing": derived.to_json(),
        "versions": versions(),
    }

"""The file of a benchmark: which studies, arms, seeds and budgets; and the units of work that it amounts to."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from nextmask.errors import SelectionError, StudyError
from nextmask.features.store import find_encoding
from nextmask.study.config import StudyConfig, checked, no_such_setting
from nextmask.study.request import find_strategy

OWN = (
    "images", "masks", "scribbles", "columns", "classes", "mask_codes", "scribble_codes", "split_by", "test_fraction",
    "cache", "seed", "training_seed",
)  # fmt: skip
"""Settings of study.toml that no arm may vary: all units share their study's cases and split, and seeds have keys of their own."""


def _seeds(value: Any) -> Any:
    """Read 3 as the seeds 0, 1 and 2."""
    return tuple(range(value)) if type(value) is int else value


def _schedules(value: Any) -> Any:
    """Read [20, 40] as one study that grows, [[20, 40]]."""
    flat = isinstance(value, list | tuple) and value and all(type(each) is int for each in value)
    return (value,) if flat else value


def _known(name: str) -> str:
    try:
        find_strategy(name)
    except StudyError as error:
        raise ValueError(str(error)) from error
    return name


def _known_encoder(name: str) -> str:
    try:
        find_encoding(name)
    except SelectionError as error:
        raise ValueError(str(error)) from error
    return name


def _variable(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in settings:
        if name in OWN:
            raise ValueError(
                f"{name} is the study's and cannot be varied within it; make it another study of this file"
            )
        if name not in StudyConfig.model_fields:
            raise ValueError(f"{name}: {no_such_setting(name, StudyConfig.model_fields)}")
    return settings


StrategyName = Annotated[str, AfterValidator(_known)]
EncoderName = Annotated[str, AfterValidator(_known_encoder)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seeds)]
Positive = Annotated[int, Field(gt=0)]
Schedules = Annotated[tuple[tuple[Positive, ...], ...], BeforeValidator(_schedules)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Grid(_Table):
    """What may be said once for all arms, and by an arm for itself."""

    seeds: Seeds | None = Field(None, description="seeds of the queries and of the training: a list, or how many")
    training_seeds: Seeds | None = Field(
        None, description="seeds of the training, each with each of the above; the same seed for both if not given"
    )
    pretrainings: Literal["one", "each"] | None = Field(
        None,
        description="one pretraining that all seeds share, if not given, or one for each of the seeds of the queries",
    )
    budgets: Schedules | None = Field(
        None,
        description="samples labeled in all after each round, [20, 40, 80]; a list of such lists are several studies, "
        "so [[20], [40], [80]] asks for each budget at once",
    )
    query_sizes: tuple[Positive, ...] | None = Field(
        None, description="instead of budgets: samples a round, each tried"
    )
    rounds: Positive | None = Field(None, description="and how many rounds of them")
    first: StrategyName | None = Field(
        None, description="the strategy of the first round, if another: most strategies by uncertainty need a segmenter"
    )
    first_options: dict[str, Any] | None = Field(None, description="its options")
    settings: dict[str, Any] = Field({}, description="values of study.toml, for example {iterations = 500}")

    @field_validator("settings")
    @classmethod
    def _settings(cls, settings: dict[str, Any]) -> Mapping[str, Any]:
        return _variable(settings)

    @field_validator("budgets")
    @classmethod
    def _growing(cls, schedules: Sequence[Sequence[int]] | None) -> Any:
        if schedules is not None and any(not one or list(one) != sorted(set(one)) for one in schedules):
            raise ValueError("expected numbers of samples that grow from round to round, for example [20, 40, 80]")
        return schedules

    @model_validator(mode="after")
    def _one_way_to_grow(self) -> Grid:
        if (self.query_sizes is None) != (self.rounds is None) or (self.rounds and self.budgets):
            raise ValueError("expected either budgets, or query_sizes together with rounds")
        return self


class Arm(Grid):
    """Strategies that are played alike, each with each encoder and each combination of what varies."""

    name: str | None = Field(
        None, description="what tables and figures call this arm; made of its settings if not given"
    )
    studies: tuple[str, ...] | None = Field(None, description="names of the studies to play it on; all if not given")
    strategies: tuple[StrategyName, ...] = Field(min_length=1, description="names of strategies")
    options: dict[str, Any] = Field(
        {}, description="options of the strategies, and limits of a query (per_patient, ...)"
    )
    encoders: tuple[EncoderName, ...] = Field((), description="encoders, each with each strategy")
    vary: dict[str, tuple[Any, ...]] = Field(
        {}, description="values of study.toml to try, each with each: {start = ['scratch', 'restoration']}"
    )

    @field_validator("vary")
    @classmethod
    def _vary(cls, vary: dict[str, tuple[Any, ...]]) -> Mapping[str, Any]:
        return _variable(vary)


class BenchmarkConfig(Grid):
    """A benchmark. An unknown key is an error with a suggestion."""

    studies: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="by name: the settings of a study.toml, paths relative to this file; or {folder = 'PATH'}, a study that "
        "there is; or {synthetic = {patients = 12, seed = 0}}, drawn patients",
    )
    arms: tuple[Arm, ...] = Field(min_length=1, description="what is compared")
    baseline: str | None = Field(
        None,
        description="the arm or strategy that the report measures the others by; plain random, or else the first, if not given",
    )
    margin: float = Field(0.01, ge=0, description="the largest difference in Dice that would not matter")
    target: float | None = Field(
        None, gt=0, lt=1, description="the Dice that is good enough; 95 % of what the baseline ends with if not given"
    )
    full_score: float | None = Field(
        None,
        gt=0,
        le=1,
        description="the Dice of a network trained as long on all labels, which FG-Eff needs; that of an arm whose budget is the "
        "whole pool, if not given",
    )
    threads: Positive = Field(
        1,
        description="threads of each unit; how many units run side by side changes no result, this changes last digits",
    )
    gpus: float = Field(0, ge=0, description="GPUs that a cluster is to give each unit; with 0.5, two units share one")
    slurm: dict[str, Any] = Field(
        {}, description="of --on slurm: what submitit takes, {slurm_partition = 'gpu', timeout_min = 600}"
    )

    @field_validator("studies")
    @classmethod
    def _named(cls, studies: dict[str, Any]) -> dict[str, Any]:
        for name in studies:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is to name a folder; expected letters, digits, - and _")
        return studies

    @model_validator(mode="after")
    def _studies_that_there_are(self) -> BenchmarkConfig:
        for arm in self.arms:
            for name in arm.studies or ():
                if name not in self.studies:
                    raise ValueError(f"an arm names study {name!r}; expected one of {', '.join(self.studies)}")
        return self


@dataclass(frozen=True)
class Unit:
    """One simulated study: ``sizes`` are the samples of each round's query. ``arm`` is its name in tables and figures."""

    study: str
    arm: str
    strategy: str
    options: Mapping[str, Any]
    first: str | None
    first_options: Mapping[str, Any]
    settings: Mapping[str, Any]
    sizes: tuple[int, ...]
    seed: int
    training_seed: int
    own_pretraining: bool = False

    def asked(self) -> dict[str, Any]:
        """Return what decides its results besides the study and its settings; what it is called does not."""
        apart = ("study", "arm", "settings", "own_pretraining")
        return {name: value for name, value in vars(self).items() if name not in apart}

    def settings_in(self, study: StudyConfig) -> Mapping[str, Any]:
        """Return its settings, with the seed of a pretraining of its own; one that was made elsewhere has none."""
        if not self.own_pretraining or self.settings.get("encoder", study.encoder) == "pretrained":
            return self.settings
        shared = self.settings.get("pretraining", study.pretraining)
        return {**self.settings, "pretraining": {**shared, "seed": self.seed}}


def read_benchmark(path: Path) -> BenchmarkConfig:
    """Read the file of a benchmark.

    Raises:
        StudyError: there is none, or it is wrong; every wrong key is named.
    """
    try:
        return checked(BenchmarkConfig, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError as error:
        raise StudyError(
            f"there is no file {path}. Expected the TOML file of a benchmark. See examples/benchmark.toml for one."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise StudyError(
            f"{path} is no valid TOML: {error}. Expected lines like: seeds = 3. Mend that line."
        ) from error


def units(config: BenchmarkConfig) -> tuple[Unit, ...]:
    """List the units of a benchmark, seed by seed, so that one that is cut short has compared all with fewer seeds.

    Two arms may ask for the same; it is listed once.
    """
    distinct: dict[str, Unit] = {}
    for unit in (unit for arm in config.arms for unit in _units_of(arm, config)):
        distinct.setdefault(repr((unit.study, unit.settings, unit.own_pretraining, unit.asked())), unit)
    named = _named_apart(tuple(distinct.values()))
    _check_baseline(config.baseline, named)
    by_seeds: dict[tuple[int, int], list[Unit]] = {}
    for unit in named:
        by_seeds.setdefault((unit.seed, unit.training_seed), []).append(unit)
    return tuple(unit for same in by_seeds.values() for unit in same)


def _check_baseline(baseline: str | None, found: Sequence[Unit]) -> None:
    known = {name for unit in found for name in (unit.arm, unit.strategy)}
    if baseline is not None and baseline not in known:
        raise StudyError(
            f"baseline is {baseline!r}. Expected an arm or a strategy of this file: {', '.join(sorted(known))}. "
            "Name one of these, or leave the line out for a random one."
        )


def _units_of(arm: Arm, config: BenchmarkConfig) -> Iterator[Unit]:
    given = {name: getattr(arm, name) if getattr(arm, name) is not None else getattr(config, name) for name in _SHARED}
    vary = {**arm.vary, **({"encoder": arm.encoders} if arm.encoders else {})}
    for seed, study, sizes, strategy in product(
        given["seeds"] or (0,), arm.studies or config.studies, _sizes(arm, config), arm.strategies
    ):
        for values in product(*vary.values()):
            for training_seed in given["training_seeds"] or (seed,):
                yield Unit(
                    study,
                    arm.name or "",
                    strategy,
                    arm.options,
                    given["first"],
                    given["first_options"] or {},
                    {**config.settings, **arm.settings, **dict(zip(vary, values, strict=True))},
                    sizes,
                    seed,
                    training_seed,
                    given["pretrainings"] == "each",
                )


_SHARED = ("seeds", "training_seeds", "pretrainings", "first", "first_options")


def _sizes(arm: Arm, config: BenchmarkConfig) -> list[tuple[int, ...]]:
    """Return the query sizes of each round, for each way that the labels may grow."""
    own: Grid = arm if arm.budgets or arm.rounds else config
    if own.budgets:
        return [tuple(after - before for before, after in zip((0, *one), one, strict=False)) for one in own.budgets]
    if own.query_sizes and own.rounds:
        return [(size,) * own.rounds for size in own.query_sizes]
    raise StudyError(
        f"nothing says how many samples the arm of {', '.join(arm.strategies)} asks for. Expected budgets, or query_sizes "
        "with rounds, in the arm or above all arms. Write for example: budgets = [20, 40, 80]"
    )


def _named_apart(found: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """Name every arm by its strategy and by what differs between units; a name that was given comes first.

    Units that were given one name are told apart among themselves alone.
    """
    groups = {name: [u for u in found if u.arm == name] for name in dict.fromkeys(u.arm for u in found)}
    differing = {name: _differing(group if name else found) for name, group in groups.items()}
    beginnings = len({u.first for u in found})

    def described(unit: Unit) -> str:
        begun = {"first": unit.first} if beginnings > 1 and unit.first else {}
        if unit.own_pretraining and not all(u.own_pretraining for u in found):
            begun["pretrainings"] = "each"
        settings = {name: unit.settings[name] for name in differing[unit.arm] if name in unit.settings}
        return " ".join(
            [unit.strategy, *(f"{k}={value}" for k, value in {**begun, **unit.options, **settings}.items())]
        )

    bare = {name: {described(u) for u in group} for name, group in groups.items()}
    return tuple(
        replace(u, arm=u.arm if u.arm and len(bare[u.arm]) == 1 else f"{u.arm}: {described(u)}".removeprefix(": "))
        for u in found
    )


def _differing(found: Sequence[Unit]) -> list[str]:
    """List the settings that are not the same in all of these units."""
    return [name for name in StudyConfig.model_fields if len({repr(u.settings.get(name)) for u in found}) > 1]

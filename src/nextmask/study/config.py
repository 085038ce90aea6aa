"""study.toml: what a user may set, about a dozen keys; everything else is derived and written into the ledger."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from nextmask.data.files import write_text
from nextmask.data.pool import IGNORE
from nextmask.data.proxy_masks import parse_proxy
from nextmask.data.strokes import AS_DRAWN, Conclusions
from nextmask.errors import DataError, StudyError
from nextmask.study.inference import Inference
from nextmask.study.scores import MEASURES

FILE = "study.toml"
FROZEN = (
    "classes",
    "unit",
    "box",
    "box_stride",
    "split_by",
    "test_fraction",
    "working_size",
    "field_of_view",
    "coordinates",
    "window",
)
"""Settings that a study's pool, split and masks rest on; the others may be changed between rounds."""


def _codes(value: Any) -> Any:
    """Read {"4": "ignore"} as {4: 255}."""
    if not isinstance(value, dict):
        return value
    return {int(code): IGNORE if meaning == "ignore" else int(meaning) for code, meaning in value.items()}


Model = TypeVar("Model", bound=BaseModel)
Codes = Annotated[dict[int, int], BeforeValidator(_codes)]


LAST_ROUND = "last round"

Start = Literal[
    "scratch",
    "last round",
    "restoration",
    "restoration+decoder",
    "reconstruction",
    "contrastive",
    "group_contrastive",
]


SCRIBBLES = ("scribble", "drawn_scribble")
"""Kinds of supervision that leave most of a sample open."""

OBJECTIVES = (
    "supervised",
    "partial_cross_entropy",
    "dmpls",
    "soft_dmpls",
    "gated_crf",
    "mean_teacher",
    "fixmatch",
    "unimatch",
    "cross_pseudo",
    "copy_paste",
    "pseudo_labels",
)
"""Names of what a training may minimise, as in `nextmask.training.objectives`; here too, so that torch need not be loaded."""


class Drawing(BaseModel):
    """What of ``minutes_per_slice`` goes where; on a slice of a heart (3 structures, 340 voxel edges) it adds up to all of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slice: float = Field(0.1, ge=0, description="looking at a slice, whatever it shows")
    structure: float = Field(0.1, ge=0, description="each connected structure of a slice")
    boundary: float = Field(0.18, ge=0, description="every 100 voxel edges of outline")
    scribble: float = Field(1 / 15, gt=0, description="a scribble, as a share of drawing the mask")


class StudyConfig(BaseModel):
    """The settings of a study. An unknown key is an error with a suggestion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str = Field(description="a cases.csv, a folder or a glob; relative to the study folder")
    masks: str | None = Field(None, description="a folder of masks that pair with the images by name")
    scribbles: str | None = Field(None, description="a folder of scribbles that pair with the images by name")
    columns: dict[str, str] = Field(
        {}, description="other names of columns in cases.csv, as {patient = 'subject_group'}"
    )
    classes: tuple[str, ...] = Field(description="names of the classes 1, 2, ... of a mask; 0 is background")
    unit: Literal["whole", "slice", "box"] = Field("whole", description="what one sample is")
    box: tuple[int, ...] | None = Field(None, description="voxels per axis (z, y, x) of a sample where unit = 'box'")
    box_stride: tuple[int, ...] | None = Field(
        None, description="voxels per axis from one box to the next, if they may overlap; a query never does"
    )
    mask_codes: Codes = Field(
        {}, description="other codes in mask files: {255 = 1}, or {9 = 'ignore'} for not annotated"
    )
    scribble_codes: Codes = Field({}, description="other codes in scribble files")
    supervision: Literal["mask", "corrected", "scribble", "drawn_scribble"] = Field(
        "mask",
        description="what the oracle of a simulation draws: mask; corrected (the last segmenter's, in less time); "
        "scribble (from a file); drawn_scribble (made from the mask)",
    )
    reader_error: float = Field(
        0.0,
        ge=0,
        description="how far the oracle of a simulation is off: 0 not at all, 1 as two readers of ACDC differ",
    )
    split_by: str = Field("patient", description="the column whose values never land on two sides of the split")
    test_fraction: float = Field(
        0.2, ge=0, lt=1, description="share of the split units that is kept for testing; 0 = none"
    )
    encoder: str = Field("intensity", description="what strategies see of an image; see docs/encoders.md")
    pretraining: dict[str, int | float | bool | str] = Field(
        {},
        description="of encoders that learn from the pool's images: {iterations = 3000, seed = 0}; of encoder 'pretrained': "
        "{network = 'monai:resnet18', weights = 'FILE', size = 224, pool = 'mean'}, or a TorchScript file; see docs/pretrained.md",
    )
    learner: Literal["unet", "nnunet"] = Field(
        "unet",
        description="what is trained on the masks: unet, or nnunet (needs nextmask[nnunet]); see docs/learners.md",
    )
    start: Start = Field(
        "scratch",
        description="weights that a training begins with: scratch, last round, a pretraining, or restoration+decoder",
    )
    objectives: dict[str, float] = Field(
        {}, description="what a training minimises, {name = weight}; derived if not given; see docs/training.md"
    )
    training: dict[str, Any] = Field(
        {},
        description="numbers in place of derived ones, {learning_rate = 0.01, features = [16, 32, 64]}; see docs/training.md",
    )
    dimensions: Literal[2, 3] | None = Field(
        None, description="axes of what the network sees: 2 = slices, 3 = volumes; as the samples are, if not given"
    )
    members: int = Field(
        1, ge=1, description="networks that are trained, each from a seed of its own, and predict together"
    )
    snapshots: int = Field(
        1, ge=1, description="members that each network leaves on its way, in place of further trainings"
    )
    far_background: bool = Field(
        True,
        description="with scribbles: what lies farther from every structure's strokes than the background's do is background",
    )
    grown_strokes: dict[str, float] = Field(
        {},
        description="with scribbles: thick classes whose strokes grow over voxels that look alike, and how sure that must be: "
        "{background = 0.9, liver = 0.9}; see docs/training.md",
    )
    largest_component: tuple[str, ...] = Field(
        (),
        description="classes that are one piece in every image: of what is predicted of them the largest connected "
        "component is kept",
    )
    turned_views: tuple[float, ...] = Field(
        (),
        description="degrees by which an image is turned for further predictions, whose mean makes masks and scores: [-20, 20]",
    )
    measure: str = Field("entropy", description="what `uncertainty` is the mean of; see docs/strategies.md")
    proxy: str | None = Field(
        None,
        description="what stands in for masks until there is a segmenter: otsu-bright, otsu-dark, hu-liver, hu:100:150",
    )
    region: str = Field(
        "whole",
        pattern=r"^(whole|predicted|proxy|oracle|column:.+)$",
        description="what encoders see of a case: whole, or a box around what is predicted or proxy, or in column:NAME; "
        "in simulations also oracle, around the truth",
    )
    minutes_per_image: float = Field(0.5, ge=0, description="minutes to open and look through one sample's image")
    minutes_per_slice: float = Field(
        1.0, gt=0, description="minutes to draw a mask on one slice, by estimate; a picture is one slice"
    )
    drawing: Drawing = Field(
        Drawing(),
        description="what a simulation reckons of minutes_per_slice: for each slice, structure, 100 voxel edges of outline; "
        "scribble: share of that which a scribble takes",
    )
    seed: int = Field(0, ge=0, description="of everything that is drawn")
    training_seed: int | None = Field(
        None, ge=0, description="of the training alone, so that it may vary while the queries do not; seed if not given"
    )
    iterations: int | None = Field(
        None, gt=0, description="training steps a round; derived from the device if not given"
    )
    iterations_per_sample: float | None = Field(
        None, gt=0, description="training steps for each labeled sample, in place of iterations: rounds grow longer"
    )
    working_size: int | None = Field(None, ge=16, description="longest side of a typical image as the network sees it")
    field_of_view: float | None = Field(
        None, gt=0, lt=1, description="share of both in-plane axes, around the centre, that is kept; all if not given"
    )
    coordinates: tuple[Literal["z", "y", "x"], ...] = Field(
        (),
        description='axes along which networks are told where a voxel lies, by one more channel each: ["z"] for slices of '
        "organs that always lie alike; see docs/training.md",
    )
    window: tuple[float, float] | None = Field(
        None, description="CT window in Hounsfield units, if not the derived one"
    )
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps; auto takes a GPU if there is one")
    devices: int = Field(
        1, ge=1, description="GPUs that train one network together; more than one needs nextmask[multigpu]"
    )
    cache: str = Field("cache", description="folder of what can be made anew; may be deleted at any time")

    @field_validator("measure")
    @classmethod
    def _known_measure(cls, name: str) -> str:
        if name not in MEASURES:
            raise ValueError(f"expected one of {', '.join(MEASURES)}")
        return name

    @field_validator("largest_component")
    @classmethod
    def _known_classes(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        classes = info.data.get("classes", names)  # wrong classes are an error of their own
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise ValueError(f"there is no class {', '.join(unknown)}; expected some of {', '.join(classes)}")
        return names

    @field_validator("grown_strokes")
    @classmethod
    def _sure_classes(cls, sure: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        known = ["background", *info.data.get("classes", sure)]
        unknown = [name for name in sure if name not in known]
        if unknown:
            raise ValueError(f"there is no class {', '.join(unknown)}; expected some of {', '.join(known)}")
        if not all(0.5 < least <= 1 for least in sure.values()):
            raise ValueError("expected probabilities above 0.5, up to 1")
        return sure

    @field_validator("turned_views")
    @classmethod
    def _distinct_angles(cls, degrees: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(degrees)) != len(degrees) or not all(0 < abs(angle) <= 180 for angle in degrees):
            raise ValueError(
                "expected different angles from -180 to 180; 0, the image as it is, is always one of the views"
            )
        return degrees

    @field_validator("coordinates")
    @classmethod
    def _distinct_axes(cls, axes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(axes)) != len(axes):
            raise ValueError("expected each axis once")
        return axes

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(weights) - set(OBJECTIVES))
        if unknown:
            raise ValueError(f"there is no objective {', '.join(unknown)}; expected some of {', '.join(OBJECTIVES)}")
        if not all(0 < weight < float("inf") for weight in weights.values()):
            raise ValueError("expected weights above 0; leave an objective out if it should have none")
        return weights

    @field_validator("proxy")
    @classmethod
    def _known_proxy(cls, name: str | None) -> str | None:
        try:
            if name is not None:
                parse_proxy(name)
        except DataError as error:
            raise ValueError(str(error)) from error
        return name

    @field_validator("box", "box_stride")
    @classmethod
    def _positive(cls, size: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if size is not None and (not size or min(size) < 1):
            raise ValueError("expected one voxel or more along each axis")
        return size

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) != len(names) or len(names) > IGNORE - 1:
            raise ValueError("expected one to 254 different names")
        return names

    @property
    def concluded(self) -> Conclusions:
        """What is concluded from strokes; nothing from masks, which leave nothing open."""
        if self.supervision not in SCRIBBLES:
            return AS_DRAWN
        numbers = {name: number for number, name in enumerate(("background", *self.classes))}
        return Conclusions(
            self.far_background, tuple(sorted((numbers[name], sure) for name, sure in self.grown_strokes.items()))
        )

    @property
    def inference(self) -> Inference:
        """How a segmenter's word becomes a mask."""
        return Inference(self.turned_views, tuple(self.classes.index(name) + 1 for name in self.largest_component))


def read_config(folder: Path) -> StudyConfig:
    """Read a study's settings.

    Raises:
        StudyError: there is no study in the folder, or its settings are wrong; every wrong key is named.
    """
    path = folder / FILE
    if not path.is_file():
        raise StudyError(
            f"there is no study in {folder} (no {FILE}). Expected a folder made by nextmask. "
            f"Make one: nextmask new {folder} --images FOLDER_OR_CSV --classes NAME,NAME"
        )
    try:
        return parse_config(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path} is no valid TOML: {error}. Expected lines like: seed = 0. Mend that line.") from error


def parse_config(values: dict[str, Any], where: str = FILE) -> StudyConfig:
    """Check settings; every wrong one is named in one message."""
    return checked(StudyConfig, values, where)


def checked(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Check the values of a file against what it may hold; every wrong one is named in one message."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem, model) for problem in error.errors()]
        raise StudyError(f"{where} has {len(lines)} wrong settings:\n  " + "\n  ".join(lines)) from error


def refuse_changed(config: StudyConfig, made: dict[str, Any]) -> None:
    """Raise if a setting that the study rests on is no longer what it was made with (``made``: plain types)."""
    now = config.model_dump(mode="json")
    # Empty and absent are the same: a study of an earlier release does not know every setting.
    changed = [name for name in FROZEN if (now[name] or None) != (made.get(name) or None)]
    if changed:
        was = "; ".join(
            f"{name} = {as_toml(made[name])}" if made.get(name) is not None else f"no {name}" for name in changed
        )
        raise StudyError(
            f"{FILE} was changed in what the study rests on: {', '.join(changed)}. Expected, as it was made: {was}. "
            "Put it back, or create a new study."
        )


def write_config(folder: Path, config: StudyConfig) -> None:
    """Write every setting with its meaning, so that the file explains itself."""
    values = config.model_dump()
    lines = ["# Settings of this nextmask study. What is commented out is derived or has its default.", ""]
    for name, field in StudyConfig.model_fields.items():
        lines.append(f"# {field.description}")
        value = values[name]
        lines.append(f"# {name} =" if value in (None, {}) else f"{name} = {as_toml(value)}")
    write_text(folder / FILE, "\n".join(lines) + "\n")


def _explain(problem: Any, model: type[BaseModel]) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{name}: {no_such_setting(str(problem['loc'][-1]), _model_at(model, problem['loc']).model_fields)}"
    return f"{name} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"


def no_such_setting(name: str, known: Iterable[str]) -> str:
    """Say that a setting does not exist, and which one may have been meant."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
    return f"there is no such setting; {hint}"


def _model_at(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """Find the table of a file that a place in it belongs to."""
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        model = next((each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)), model)
    return model


def as_toml(value: Any) -> str:
    """Write a value as TOML has it, tables within one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)

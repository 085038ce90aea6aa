"""The report: one file, offline, that says everything it was given and stands up to odd content."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextmask.data.pool import IGNORE
from nextmask.data.synthetic import CLASSES, draw_patient
from nextmask.data.synthetic_pictures import draw_picture
from nextmask.study.figures import COLORS, Curve, learning_curves, overlay_png, picture_png, shorten
from nextmask.study.report import MOST_PICTURES, Picture, ReportContent, RoundRow, render_report

EMPTY = ReportContent("A study", "1 May 2026", {}, (), (), (), {}, {}, (), ("lesion",))
VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """Collect what a page shows (its text), embeds (its images) and loads, and whether its tags are balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.source, self.open, self.words = text, [], []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def images(self) -> list[Image.Image]:
        sources = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        return [decode(source.removeprefix("data:image/png;base64,")) for source in sources if source]

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]


def decode(encoded: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def colors_in(encoded: str) -> set[tuple[int, ...]]:
    return {tuple(color) for color in np.asarray(decode(encoded).convert("RGBA")).reshape(-1, 4).tolist()}


def rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def render(content: ReportContent, folder: Path) -> Page:
    render_report(content, folder / "report.html")
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def row(number: int, dice: float | None, **others: float | None) -> RoundRow:
    scores = {name: {"dice": dice, **others} for name in CLASSES}
    return RoundRow(number, "typiclust", 6 * number, "done", scores)


@pytest.fixture
def content() -> ReportContent:
    scans = [draw_patient(3, number, shape=(8, 64, 64)).phases[0] for number in range(4)]
    pictures = [Picture(f"{scan.id}__z0004", 1 + k // 2, scan.image[4], scan.mask[4]) for k, scan in enumerate(scans)]
    pictures[3] = replace(pictures[3], mask=None, note="asked for last")
    return ReportContent(
        title="Short axis",
        created="1 May 2026",
        summary={"Unit": "slice", "Pool": "96 slices"},
        curves=(Curve("This study", (6, 12), (0.4113, 0.5822)), Curve("random, seed 1", (6, 12), (0.3, 0.5), "random")),
        rounds=(row(1, 0.4113, hd95=18.21, nsd=0.31, assd=4.72), row(2, 0.5822, hd95=9.64, nsd=None, assd=2.48)),
        pictures=tuple(pictures),
        derived={"Patch": "96 x 96"},
        versions={"torch": "2.13.0"},
        problems=("patient074 and patient076 are one exam.",),
        class_names=CLASSES,
    )


def test_everything_given_is_stated(content: ReportContent, tmp_path: Path) -> None:
    page = render(content, tmp_path)
    stated = [content.title, content.created, *content.problems, *CLASSES, "typiclust", "done", "asked for last"]
    for mapping in (content.summary, content.derived, content.versions):
        stated += [*mapping, *mapping.values()]
    stated += [picture.sample for picture in content.pictures] + [curve.name for curve in content.curves]
    stated += [
        "0.411",
        "0.582",
        "18.2",
        "9.6",
        "0.310",
        "4.72",
        "2.48",
        "HD95 in mm",
        "ASSD in mm",
        "NSD",
        "+0.171 since round 1",
    ]
    assert [words for words in stated if words not in page.text] == []


def test_nothing_is_loaded_from_elsewhere(content: ReportContent, tmp_path: Path) -> None:
    page = render(content, tmp_path)
    assert not re.search(r"https?://|//[a-z]|@import|url\(|file:", re.sub(r"base64,[^\"]*", "", page.source))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))


def test_pictures_are_embedded_with_their_masks(content: ReportContent, tmp_path: Path) -> None:
    page = render(content, tmp_path)
    assert len(page.images) == 4 + 3
    assert len(page.of_class("overlay")) == 3
    assert page.text.count("no mask yet") == 1
    legend = [attributes.get("style") for attributes in page.of_class("swatch")]
    assert legend == [f"--k:{color}" for color in COLORS[:3]]


def test_names_are_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert('&amp;')</script> \"x\" $a_b$ 心臓"
    content = ReportContent(
        nasty,
        nasty,
        {nasty: nasty},
        (Curve(nasty, (1, 2), (0.1, 0.2)),),
        (RoundRow(1, nasty, 2, nasty, {nasty: {"dice": 0.2, nasty: 1.0}}),),
        (Picture(nasty, 1, np.arange(64).reshape(8, 8), np.eye(8, dtype=np.uint8), nasty),),
        {nasty: nasty},
        {nasty: nasty},
        (nasty,),
        (nasty,),
    )
    page = render(content, tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(nasty) >= 12
    assert {attributes["alt"] for tag, attributes in page.tags if tag == "img"} == {nasty, f"mask of {nasty}"}


def test_names_that_are_no_unicode_do_not_stop_the_report(tmp_path: Path) -> None:
    assert "caf?" in render(replace(EMPTY, problems=("caf\udce9",)), tmp_path).text


def test_an_empty_study_says_so(tmp_path: Path) -> None:
    page = render(EMPTY, tmp_path)
    for words in ("no curve to draw", "No round yet", "No picture yet", "Nothing has been derived", "None."):
        assert words in page.text
    assert not {tag for tag, _ in page.tags} & {"table", "svg", "img"}


def test_a_round_that_waits_for_masks(tmp_path: Path) -> None:
    rounds = (RoundRow(1, "k_center", 0, "annotate", {}),)
    pictures = (Picture("a", 1, np.arange(64).reshape(8, 8)),)
    page = render(replace(EMPTY, rounds=rounds, pictures=pictures), tmp_path)
    assert "None of them has a mask yet" in page.text
    assert {"k_center", "annotate"} <= set(page.text.split())
    assert "no curve to draw" in page.text
    assert "spacing" not in page.text
    assert not page.of_class("swatch")
    assert len(page.images) == 1


def test_unknown_spacing_is_said_once(tmp_path: Path) -> None:
    content = replace(
        EMPTY, rounds=tuple(row(n, 0.5, hd95=None, nsd=None, assd=None) for n in (1, 2)), class_names=CLASSES
    )
    page = render(content, tmp_path)
    assert page.text.count("spacing of the images is unknown") == 1
    assert [words for words in ("HD95 in mm", "ASSD in mm") if words in page.text] == []
    assert page.text.count("–:") == page.text.count("–") == 1


def test_a_segmenter_that_finds_nothing_is_not_called_a_spacing_problem(tmp_path: Path) -> None:
    page = render(replace(EMPTY, rounds=(row(1, 0.0, hd95=None),), class_names=CLASSES), tmp_path)
    assert "no structure was found" in page.text
    assert "spacing" not in page.text


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_missing_scores_are_dashes_and_do_not_spoil_the_mean(missing: float | None, tmp_path: Path) -> None:
    scores = {"chamber": {"dice": 0.8, "hd95": 3.0}, "wall": {"dice": missing, "hd95": missing}, "lobe": {"dice": 0.6}}
    page = render(replace(EMPTY, rounds=(RoundRow(1, "s", 3, "done", scores),), class_names=CLASSES), tmp_path)
    assert "0.700 mean Dice after round 1" in re.sub(r"(\d)mean", r"\1 mean", page.text)
    assert "nan" not in page.text.lower().replace("mean", "")
    assert "inf" not in page.text


def test_the_best_round_of_a_column_is_bold(content: ReportContent, tmp_path: Path) -> None:
    # Dice and the distances are best in round 2; NSD has one value only, so nothing to compare.
    page = render(content, tmp_path)
    bold = re.findall(r'<td class="number best"><i[^>]*>([^<]*)</i>', page.source)
    assert bold == ["0.582"] * 4 + ["9.6"] * 4 + ["2.48"] * 4
    assert not render(replace(content, rounds=content.rounds[:1]), tmp_path).of_class("best")


def test_rounds_of_simulations_stand_beside_the_study_and_are_not_mixed_with_it(tmp_path: Path) -> None:
    others = (
        replace(row(1, 0.9), study="random-seed0", strategy="random"),
        replace(row(2, 0.95), study="random-seed0"),
    )
    pictures = (Picture("a", 1, np.eye(8)),)
    rounds = (row(1, 0.4), row(2, 0.5), *others)
    page = render(replace(EMPTY, rounds=rounds, class_names=CLASSES, pictures=pictures), tmp_path)
    assert "0.500mean Dice after round 2 · +0.100 since round 1" in page.text
    assert page.text.startswith("A study A study 1 May 2026 2rounds 12labeled samples")
    assert (page.text.count("this study"), page.text.count("random-seed0")) == (2, 2)
    assert len(page.of_class("anew")) == 1
    # Round 1 was asked for by two strategies: the gallery must not name either.
    assert "Round 1 a" in page.text


def test_rounds_that_start_anew_are_several_studies_even_without_names(tmp_path: Path) -> None:
    rounds = (row(1, 0.4, assd=2.0), row(2, 0.5), replace(row(1, 0.9), strategy="random"))
    page = render(replace(EMPTY, rounds=rounds, class_names=CLASSES), tmp_path)
    assert "since round" not in page.text
    assert "2studies 3rounds" in page.text
    assert page.text.count("random") == 2  # in both tables


def test_many_pictures_are_capped_evenly_and_that_is_said(tmp_path: Path) -> None:
    image, mask = np.arange(64).reshape(8, 8), np.eye(8, dtype=np.uint8)
    pictures = tuple(Picture(f"sample {number}", number // 50, image, mask) for number in range(500))
    page = render(replace(EMPTY, pictures=pictures), tmp_path)
    assert f"{MOST_PICTURES} of 500 samples" in page.text
    assert len(page.images) == 2 * MOST_PICTURES
    assert all(f"Round {number}" in page.text for number in range(10))


def test_rgb_and_a_single_class(tmp_path: Path) -> None:
    image, mask = draw_picture(0, 0, 64)
    rounds = (RoundRow(1, "random", 1, "done", {"lesion": {"dice": 0.5}}),)
    page = render(replace(EMPTY, rounds=rounds, pictures=(Picture("p", 1, image.transpose(1, 2, 0), mask),)), tmp_path)
    assert "mean Dice after" not in page.text
    shown = np.asarray(page.images[0].convert("RGB"), float)
    assert np.abs(shown - image.transpose(1, 2, 0)).mean() < 8


def test_the_same_content_gives_the_same_bytes_and_replaces_the_file(content: ReportContent, tmp_path: Path) -> None:
    render_report(EMPTY, tmp_path / "new folder" / "report.html")
    render_report(content, tmp_path / "new folder" / "report.html")
    render_report(content, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "new folder" / "report.html").read_bytes()


# ------------------------------------------------------------------------------------------------------ figures


@pytest.mark.parametrize("value", [7.0, np.nan, np.inf])
def test_constant_and_undefined_images_are_pictures_too(value: float) -> None:
    image = np.asarray(decode(picture_png(np.full((6, 9), value))))
    assert image.shape == (6, 9)
    assert (image == (128 if np.isfinite(value) else 0)).all()


def test_pictures_are_stretched_and_not_too_large() -> None:
    ramp = np.tile(np.linspace(-1000, 3000, 900), (450, 1)).astype(np.float16)
    image = np.asarray(decode(picture_png(ramp, longest=300)))
    assert image.shape == (150, 300)
    assert (image.min(), image.max()) == (0, 255)
    assert (np.diff(image[0].astype(int)) >= 0).all()
    assert 120 < image[0, 150] < 136


def test_overlay_has_the_colour_of_each_class_and_nothing_on_background() -> None:
    mask = np.zeros((40, 30), np.uint8)
    mask[5:20, 5:20], mask[25:35, 5:20] = 1, 2
    overlay = np.asarray(decode(overlay_png(mask)).convert("RGBA"))
    scale = overlay.shape[0] // 40
    for label, (y, x) in {1: (12, 12), 2: (30, 12)}.items():
        inside, edge = overlay[y * scale, x * scale], overlay[y * scale, 5 * scale]
        assert tuple(inside[:3]) == tuple(edge[:3]) == rgb(COLORS[label - 1])
        assert 0 < inside[3] < 128 < edge[3]
    assert overlay[2 * scale, 2 * scale, 3] == overlay[22 * scale, 12 * scale, 3] == 0


def test_scribbles_are_strokes_and_show_the_drawn_background() -> None:
    scribble = np.full((40, 40), IGNORE, np.uint8)
    scribble[10, 5:30], scribble[20, 5:30] = 0, 3
    colors = {color[:3] for color in colors_in(overlay_png(scribble)) if color[3] > 200}
    assert colors == {(255, 255, 255), rgb(COLORS[2])}


def test_what_is_concluded_lies_beneath_the_strokes() -> None:
    scribble = np.full((40, 40), IGNORE, np.uint8)
    scribble[20, 5:30] = 3
    learned = scribble.copy()
    learned[15:25, 5:30] = 3
    learned[30:] = 0
    overlay = np.asarray(decode(overlay_png(scribble, learned)).convert("RGBA"))
    scale = len(overlay) // 40
    stroke, grown, open_, far = (overlay[y * scale : (y + 1) * scale, 10 * scale] for y in (20, 22, 5, 35))
    for pixels, firm in ((stroke, True), (grown, False)):
        assert {tuple(pixel[:3]) for pixel in pixels} == {rgb(COLORS[2])}
        assert all((pixel[3] > 200) == firm for pixel in pixels)
    assert set(open_[:, 3]) <= {0, 150}
    assert open_[:, 3].any() or overlay[: 10 * scale, :, 3].any()
    assert not far.any()


def test_what_is_not_annotated_is_striped() -> None:
    mask = np.zeros((40, 40), np.uint8)
    assert {color[3] for color in colors_in(overlay_png(mask))} == {0}
    mask[30:] = IGNORE
    overlay = np.asarray(decode(overlay_png(mask)).convert("RGBA"))[..., 3] > 0
    edge = 30 * len(overlay) // 40
    assert not overlay[:edge].any()
    assert 0.2 < overlay[edge:].mean() < 0.5


def test_legend_explains_scribbles_and_what_is_not_annotated(tmp_path: Path) -> None:
    image, scribble, partial = np.eye(20), np.full((20, 20), IGNORE, np.uint8), np.eye(20, dtype=np.uint8)
    scribble[3], partial[15:] = 9, IGNORE
    page = render(
        replace(EMPTY, pictures=(Picture("a", 1, image, scribble), Picture("b", 1, image, partial))), tmp_path
    )
    assert "lesion class 9 (unnamed) background, drawn not annotated" in page.text
    strokes = Picture("a", 1, image, scribble)
    pages = [
        render(replace(EMPTY, pictures=(each,)), tmp_path)
        for each in (strokes, replace(strokes, learned=np.where(scribble == 9, scribble, 0)))
    ]
    assert ["not annotated" in page.text for page in pages] == [False, True]


def test_a_class_is_not_outlined_where_the_image_ends() -> None:
    assert {color[3] for color in colors_in(overlay_png(np.ones((40, 40), np.uint8)))} == {78}


def test_large_masks_are_thinned_and_colours_repeat_after_the_seventh_class() -> None:
    mask = np.full((1200, 900), 8, np.uint8)
    assert max(decode(overlay_png(mask)).size) <= 448
    assert {color[:3] for color in colors_in(overlay_png(mask))} == {rgb(COLORS[0])}


def test_curves_keep_their_values_in_the_chart() -> None:
    chart = learning_curves([Curve("a", (10, 20, 40), (0.0, 0.5, 1.0))])
    assert chart is not None
    (x0, y0), (x1, y1), (x2, y2) = chart.lines[0].points
    assert (y0, y2) == (chart.bottom, chart.top)
    assert y1 == pytest.approx((chart.bottom + chart.top) / 2, abs=0.1)
    assert x2 - x1 == pytest.approx(2 * (x1 - x0), abs=0.2)
    assert x0 - chart.left == pytest.approx(x1 - x0, abs=0.2)
    assert [text for _, text in chart.y_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_runs_of_one_group_are_one_line_with_their_mean() -> None:
    curves = [Curve("r1", (10, 20), (0.2, 0.4), "r"), Curve("r2", (10, 20), (0.4, 0.8), "r"), Curve("x", (10,), (0.5,))]
    chart = learning_curves(curves)
    assert chart is not None
    assert [(line.name, len(line.repetitions), len(line.points)) for line in chart.lines] == [("r", 2, 2), ("x", 0, 1)]
    assert chart.lines[0].last == pytest.approx(0.6)


def test_runs_of_different_length_are_averaged_where_all_have_values() -> None:
    curves = [Curve("r1", (10, 20, 30), (0.2, 0.4, 0.6), "r"), Curve("r2", (15, 25), (0.4, 0.4), "r")]
    chart = learning_curves(curves)
    assert chart is not None
    assert len(chart.lines[0].points) == 3  # 15, 20, 25
    assert chart.lines[0].last == pytest.approx((0.5 + 0.4) / 2)


@pytest.mark.parametrize("dice", [(None, None), (float("nan"), None), ()])
def test_curves_without_a_value_are_left_out(dice: tuple[float | None, ...]) -> None:
    empty = Curve("empty", (1, 2)[: len(dice)], dice)
    assert learning_curves([empty]) is None
    chart = learning_curves([empty, Curve("a", (1, 2, 3), (0.1, None, 0.3))])
    assert chart is not None
    assert [(line.name, len(line.points)) for line in chart.lines] == [("a", 2)]


@pytest.mark.parametrize("end", [0.001, 0.5, 0.99])
@pytest.mark.parametrize("count", [1, 3, 25])
def test_labels_neither_cover_each_other_nor_leave_the_chart(count: int, end: float) -> None:
    chart = learning_curves([Curve(f"curve {row}", (0, 5), (0.9, end + 0.0001 * row)) for row in range(count)])
    assert chart is not None
    heights = sorted(line.label_y for line in chart.lines)
    assert all(b - a >= 18.9 for a, b in pairwise(heights))
    assert heights[0] >= 0
    assert heights[-1] <= chart.bottom
    assert len({(line.style, line.dash) for line in chart.lines}) == min(count, 18)


@pytest.mark.parametrize("most", [0, 1, 7, 8, 24, 36, 100, 999, 1234567])
def test_ticks_are_round_and_reach_beyond_the_last_point(most: int) -> None:
    chart = learning_curves([Curve("a", (most,), (0.5,))])
    assert chart is not None
    ticks = [int(tick) for _, tick in chart.x_ticks]
    assert ticks[0] == 0
    assert ticks[-1] >= most
    assert 2 <= len(ticks) <= 9
    assert all(chart.left <= x <= chart.right for x, _ in chart.x_ticks)
    assert chart.left <= chart.lines[0].points[0][0] <= chart.right


def test_long_names_keep_both_ends() -> None:
    assert shorten("short", 28) == "short"
    short = shorten("a strategy with a very long name, seed 41", 28)
    assert len(short) <= 28
    assert short.startswith("a strategy")
    assert short.endswith("seed 41")

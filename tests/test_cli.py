"""The command line, as a user types it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nextmask import cli
from nextmask.data.synthetic import write_patients
from nextmask.data.synthetic_pictures import write_pictures
from nextmask.study.study import Study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_patients(folder / "patients", 5, seed=3, shape=(6, 32, 32), phases=1)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capfd):
    """Run a command line; return exit code, what it printed, and what it complained of."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nextmask", *line.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return call


NEW = "new heart --images patients/cases.csv --unit slice --classes chamber,wall,lobe --iterations 4"


def test_the_main_job_from_new_to_report(run, here):
    assert run(NEW)[0] == 0
    assert run("check heart")[0] == 0
    code, out, _ = run("query heart -n 3 --strategy k_center")
    assert (code, "worklist.csv" in out) == (0, True)
    code, out, _ = run("annotate heart --from patients/masks")
    assert (code, "3 masks taken in" in out) == (0, True)
    assert run("train heart")[0] == 0
    code, out, _ = run("evaluate heart")
    assert (code, "HD95" in out) == (0, True)
    trust = ("cannot be told yet: 1 of 3 rounds", "whether uncertainty ranks errors: 1 test patient")
    assert all(line in out for line in trust)
    code, out, _ = run("predict heart --to seen --of pool")
    assert (code, "4 masks written to seen, 0 were there" in out) == (0, True)
    (here / "new").mkdir()
    (here / "new" / "broken.nii.gz").write_bytes(b"no image")
    code, out, _ = run("predict heart --to masks --images new")
    assert (code, "0 masks written" in out, "not predicted broken: " in out) == (1, True, True)
    oracle = "--supervision drawn_scribble --reader-error 1"
    assert run(f"simulate heart --strategy random --query-size 3 --rounds 1 --iterations 3 {oracle}")[0] == 0
    state = json.loads(run("show heart --json")[1])
    assert state["rounds"][0]["stage"] == "done"
    assert state["rounds"][0]["labeled"] == 3
    simulated = "random-n3-seed0-iterations=3-reader_error=1.0-supervision=drawn_scribble"
    assert list(state["simulations"]) == [simulated]
    assert 1.5 < state["simulations"][simulated][0]["minutes"] < 2.1
    shown = run("show heart")[1]
    assert f"{state['rounds'][0]['mean_dice']:.3f}" in shown
    assert all(line in shown for line in trust)
    assert run("report heart")[0] == 0
    assert (here / "heart" / "report.html").stat().st_size > 10_000


def test_a_mistake_ends_with_one_message_and_code_2(run, here):
    code, _, err = run("query nowhere")
    assert code == 2
    assert "there is no study in nowhere" in err
    assert "Traceback" not in err


def test_check_names_bad_files_and_ends_with_code_1(run, here):
    (here / "patients" / "images" / "patient001_ED.nii.gz").write_bytes(b"")
    made = run(NEW)[1]
    assert "patient001_ED" in made
    assert "left out" in made
    code, out, _ = run("check heart")
    assert code == 1
    assert "patient001_ED" in out
    assert "1 errors" in out
    problems = json.loads(run("check heart --json")[1])
    assert [p["where"] for p in problems if p["severity"] == "error"] == ["patient001_ED"]


def test_a_refused_mask_is_named_and_ends_with_code_2(run, here):
    run(NEW)
    asked = json.loads(run("show heart --json")[1])["rounds"]
    assert asked == []
    run("query heart -n 1 --strategy random")
    sample = json.loads(run("show heart --json")[1])["rounds"][0]["asked"][0]
    case = sample.split("__")[0]
    other = next(path for path in (here / "patients" / "masks").iterdir() if case not in path.name)
    (here / "drawn").mkdir()
    shutil.copy(other, here / "drawn" / f"{case}.nii.gz")
    code, out, err = run("annotate heart --from drawn")
    assert (code, "1 refused" in out) == (2, True)
    assert sample in err
    assert "another grid" in err


def test_giving_up_a_sample(run, here):
    run(NEW)
    run("query heart -n 2 --strategy random")
    sample = json.loads(run("show heart --json")[1])["rounds"][0]["asked"][0]
    assert run(f"annotate heart --drop {sample} --because motion")[0] == 0
    assert json.loads(run("show heart --json")[1])["rounds"][0]["labeled"] == 1


def test_codes_and_columns_are_read_from_flags(run, here):
    write_pictures(here / "pictures", 6, seed=1)
    line = "new skin --images pictures/cases.csv --classes lesion --mask-code 255=lesion --mask-code 7=ignore --column patient=case"
    code, _, err = run(line)
    assert code == 0, err
    text = (here / "skin" / "study.toml").read_text()
    assert 'mask_codes = {"255" = 1, "7" = 255}' in text
    assert 'columns = {"patient" = "case"}' in text


@pytest.mark.parametrize("flag", ["--mask-code 4=nothing", "--mask-code x=ignore", "--column patient"])
def test_flags_that_make_no_sense_are_refused(run, here, flag):
    assert run(f"{NEW} {flag}")[0] == 2


def test_options_reach_the_strategy_and_the_ledger(run, here):
    run(NEW)
    assert run("query heart -n 2 --strategy k_center --option first=random")[0] == 0
    assert Study(here / "heart").rounds[0].details["options"] == {"first": "random"}
    assert run("query heart -n 2 --strategy k_center --option first=central")[0] == 2


def test_an_interruption_says_how_to_go_on_and_the_same_command_does(run, here, monkeypatch):
    from nextmask.training import several

    run(NEW)
    run("query heart -n 2 --strategy random")
    run("annotate heart --from patients/masks")
    real = several.fit

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(several, "fit", interrupted)
    code, _, err = run("train heart")
    assert (code, "the same command goes on" in err) == (130, True)
    monkeypatch.setattr(several, "fit", real)
    assert run("train heart")[0] == 0


def test_a_rule_for_proxy_masks_is_shown_as_it_is_written(run, here):
    run(NEW)
    path = here / "heart" / "study.toml"
    path.write_text(path.read_text().replace("# proxy =", 'proxy = "hu:150:100"'))
    code, _, shown = run("show heart")
    assert code == 2
    assert "Write for example hu:100:150." in shown.replace("\n", " ")


BENCHMARK = """
budgets = [2]
settings = {iterations = 2, device = "cpu"}
[studies.heart]
images = "patients/cases.csv"
classes = ["chamber", "wall", "lobe"]
unit = "slice"
[[arms]]
strategies = ["random", "k_center"]
"""


def test_a_benchmark_runs_shows_where_it_stands_and_goes_on(run, here):
    (here / "b.toml").write_text(BENCHMARK)
    assert "waiting" in run("benchmark b.toml --status")[1]
    assert not (here / "b").exists()
    code, out, err = run("benchmark b.toml --workers 1")
    assert (code, "results.csv" in out.replace("\n", "")) == (0, True)
    assert len(re.findall(r"^heart-\S+: done$", err, re.MULTILINE)) == 2
    assert (here / "b" / "results.csv").read_text().count("\n") == 1 + 2 * 3
    again = run("benchmark b.toml --workers 0 --folder b")[2]
    assert "done" not in again
    assert re.search(r"│ all .*│ 2 +│ 0 +│ 0 +│ 0 +│", run("benchmark b.toml --status")[1])
    (here / "b" / "report.html").unlink()
    code, out, err = run("benchmark b.toml --report")
    assert (code, "done" in err, "report.html" in out.replace("\n", "")) == (0, False, True)
    assert "2 of 2" in (here / "b" / "report.html").read_text()


def test_a_long_arm_has_one_line_where_the_output_is_a_pipe(here):
    vary = "vary = {objectives = [{supervised = 1, fixmatch = 1, gated_crf = 0.1}, {supervised = 1, soft_dmpls = 1}]}"
    (here / "b.toml").write_text(BENCHMARK + vary)
    # In a process of its own: whatever runs the tests may have said how wide its output is.
    command = [sys.executable, "-c", "from nextmask.cli import main; main()", "benchmark", "b.toml", "--status"]
    elsewhere = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    shown = subprocess.run(command, env=elsewhere, capture_output=True, text=True, check=True, cwd=here).stdout
    assert sum("random" in line and "'gated_crf': 0.1}" in line for line in shown.splitlines()) == 1


def test_the_report_of_a_benchmark_that_never_ran_plays_nothing(run, here):
    (here / "b.toml").write_text(BENCHMARK)
    assert run("benchmark b.toml --report")[0] == 0
    assert "Nothing can be said yet" in (here / "b" / "report.html").read_text()
    assert not (here / "b" / "units").exists()


def test_a_report_is_not_overwritten_by_one_of_nothing(run, here):
    (here / "b.toml").write_text(BENCHMARK)
    run("benchmark b.toml --workers 0")
    before = (here / "b" / "report.html").read_text()
    (here / "b.toml").write_text(BENCHMARK.replace("iterations = 2", "iterations = 3"))
    code, _, err = run("benchmark b.toml --report")
    assert (code, "where 2 others are" in " ".join(err.split())) == (2, True)
    assert (here / "b" / "report.html").read_text() == before
    assert "2 units in this folder are of no arm" in " ".join(run("benchmark b.toml --status")[1].split())


def test_a_benchmark_that_is_interrupted_reports_what_there_is(run, here, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("nextmask.benchmark.units.run_benchmark", interrupted)
    (here / "b.toml").write_text(BENCHMARK)
    assert run("benchmark b.toml --workers 0")[0] != 0
    assert "2 of 2 units are not done" in (here / "b" / "report.html").read_text()


def test_a_benchmark_whose_units_fail_ends_with_code_1_and_says_why(run, here):
    (here / "b.toml").write_text(BENCHMARK + 'options = {first = "nonsense"}')
    code, out, err = run("benchmark b.toml --workers 0")
    assert code == 1
    assert "nonsense" in out
    assert "failed" in err
    assert run("benchmark b.toml --on moon")[0] == 2
    assert run("benchmark nowhere.toml")[0] == 2


def test_a_recipe_says_who_stands_in_for_missing_images_and_is_a_benchmark(run, here, monkeypatch):
    played = []
    monkeypatch.setattr("nextmask.benchmark.units.run_benchmark", lambda made, *_: played.extend(made.jobs))
    code, out, _ = run("recipe saal --data nowhere --folder recipes --workers 0")
    assert (code, len(played)) == (0, 6)
    assert "Drawn patients stand in for skin" in out
    assert (here / "recipes" / "saal" / "report.html").exists()
    assert "recipes/index.html" in out
    assert (here / "recipes" / "index.html").exists()
    code, _, err = run("recipe seal --data nowhere")
    assert (code, "Did you mean saal" in err.replace("\n", " ")) == (2, True)


def test_the_demo_runs_offline(run, here, monkeypatch):
    from nextmask.study import demo

    monkeypatch.setattr(demo, "PATIENTS", 4)
    monkeypatch.setattr(demo, "QUERY_SIZE", 2)
    monkeypatch.setattr(demo, "ROUNDS", 1)
    monkeypatch.setattr(demo, "ITERATIONS", 3)
    code, out, _ = run("demo shown")
    assert code == 0
    assert "report.html" in out.replace("\n", "")
    assert "mean" in out

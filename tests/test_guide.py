"""The guide and the README are true: what they list is what the program has and writes, and nothing is left out."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from dataclasses import fields
from io import StringIO
from itertools import takewhile
from pathlib import Path

import pytest
import typer
from conftest import TOY_UM_PER_PX, spots, write_picture
from documents import DOCUMENTS, GUIDE, PAGES, README, names, page, rows, section
from lab import make_cell
from rich.console import Console

from wbc_cli.acquisition.grouping import MIN_PICTURES
from wbc_cli.classes import CLASS_NAMES
from wbc_cli.cli import app
from wbc_cli.cross_validation.away import write_away
from wbc_cli.errors import ExitCode
from wbc_cli.evaluation import FIGURES
from wbc_cli.evaluation.folder import write_folder
from wbc_cli.guide import MODEL_CARD, pages
from wbc_cli.guide.terminal import WholeMarkdown
from wbc_cli.inference.quality import LIMITS
from wbc_cli.model.config import ModelConfig
from wbc_cli.morphology import ATTRIBUTES
from wbc_cli.products.registry import PRODUCT_NAMES
from wbc_cli.products.report.words import CELL_FLAGS, SLIDE_FLAGS
from wbc_cli.products.tables import CELL_COLUMNS, DIFFERENTIAL_COLUMNS, REFUSED
from wbc_cli.slides.formats import PICTURES, SLIDES
from wbc_cli.training.settings import TrainSettings

COMMANDS = typer.main.get_command(app).commands
OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


def commands(text):
    """The arguments of each call of the program in the fenced blocks of a text."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for call in re.split(r"&&|\|\||;|>", line.partition("  #")[0]):
                words = call.replace("'", " ").replace('"', " ").split()
                if "wbc-cli" in (Path(word).name for word in words):
                    start = next(i for i, word in enumerate(words) if Path(word).name == "wbc-cli")
                    yield words[start + 1 :]


def options_of(command):
    return {opt for param in COMMANDS[command].params for opt in (*param.opts, *param.secondary_opts) if opt[0] == "-"}


def test_the_guide_lists_every_page_with_what_it_is_about(call):
    answer = call("guide")
    assert (answer.code, answer.err) == (0, "")
    said = " ".join(answer.out.split())
    for listed in pages():
        assert f"wbc-cli guide {listed.topic} " in said
        assert listed.about in said
    assert {listed.topic for listed in pages()} == {path.stem for path in PAGES} | {MODEL_CARD}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_begins_with_its_title_and_one_sentence(path):
    title, about = path.read_text(encoding="utf-8").strip().split("\n\n")[:2]
    assert re.fullmatch(r"# \S.*", title)
    assert re.fullmatch(r"\S[^.!?]*(?:\.\w[^.!?]*)*\.", about.replace("\n", " "))


@pytest.mark.parametrize("topic", [listed.topic for listed in pages()])
def test_a_page_is_rendered_for_the_terminal_with_all_its_words(call, topic):
    answer = call("guide", topic)
    assert (answer.code, answer.err) == (0, "")
    (listed,) = (listed for listed in pages() if listed.topic == topic)
    title = listed.read().splitlines()[0].removeprefix("# ")
    assert title in answer.out
    assert "```" not in answer.out
    assert not re.search(r"^\|.*\|$", answer.out, re.MULTILINE)


@pytest.mark.parametrize("listed", pages(), ids=lambda listed: listed.topic)
def test_a_narrow_terminal_cuts_no_figure_off(listed):
    text = StringIO()
    Console(file=text, width=60).print(WholeMarkdown(listed.read()))
    assert "…" not in text.getvalue()
    digits = re.sub(r"[^0-9]", "", "".join(row[-1] for row in rows(listed.read())))
    assert Counter(digits) <= Counter(text.getvalue())


def test_an_unknown_topic_is_wrong_usage_and_the_topics_are_named(call):
    answer = call("guide", "astrology")
    assert (answer.code, answer.out) == (2, "")
    assert "outputs" in answer.err
    assert MODEL_CARD in answer.err


def test_the_readme_is_short_and_its_first_screen_has_the_two_commands():
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= 1200
    first = "\n".join(text.splitlines()[:24])
    assert "<!-- ci: main -->\n```sh\n" in first
    assert "<!-- ci: test -->\n```sh\n" in first


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).is_file() or target.startswith("https://"), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_that_is_shown_exists_and_has_the_options_shown(path):
    for words in commands(path.read_text(encoding="utf-8")):
        command, *rest = words
        if command.startswith("--"):
            continue  # of the program itself
        assert command in COMMANDS, words
        own = list(takewhile(lambda word: word != "--", rest))
        assert {word for word in own if OPTION.fullmatch(word)} <= options_of(command), words
        passed_on = {word for word in rest[len(own) :] if OPTION.fullmatch(word)}
        assert passed_on <= options_of("analyze"), words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_option_that_is_mentioned_exists(path):
    known = {"--version", "--help", "--install-completion", "--show-completion"}
    known |= {option for command in COMMANDS for option in options_of(command)}
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    quoted = " ".join(re.findall(r"`([^`]*)`", text))
    assert {option for option in OPTION.findall(quoted) if option.startswith("--")} <= known


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_option_of_every_command_is_on_some_page(command):
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    mentioned = set(OPTION.findall(text))
    wanted = [param for param in COMMANDS[command].params if param.opts[0].startswith("-")]
    missing = [param.opts[0] for param in wanted if not mentioned.intersection(param.opts)]
    assert not missing


@pytest.mark.parametrize("path", [README, GUIDE / "unattended.md"], ids=lambda path: path.stem)
def test_the_exit_codes_are_those_of_the_program(path):
    listed = [int(code) for code, _ in rows(section(path.read_text(encoding="utf-8"), "Exit codes"))]
    assert listed == [int(code) for code in ExitCode]


def test_the_words_that_stand_for_several_names_are_explained():
    before = page("outputs").partition("## Files")[0]
    for name in CLASS_NAMES:
        assert f"`{name}`" in before


def listed_truly(title, those_of_the_program):
    """What the outputs page lists below a heading, which is what the program has."""
    listed = names(section(page("outputs"), title))
    assert set(listed) == set(those_of_the_program)
    return listed


@pytest.mark.parametrize(
    ("title", "columns"), [("differential.csv", DIFFERENTIAL_COLUMNS), ("cells.csv", CELL_COLUMNS)]
)
def test_the_columns_of_the_tables_are_listed_in_their_order(title, columns):
    listed = listed_truly(title, columns)
    assert listed == [name for name in columns if name in listed]


def test_the_formats_are_listed_and_the_help_has_them(call):
    listed = {row[0]: row[1] for row in rows(section(page("inputs"), "Formats"))}
    said = " ".join(re.sub(r"[│╭╰─]", " ", call("analyze", "--help").out).split())
    for kind, formats in (("pictures", PICTURES), ("slides", SLIDES)):
        for own in formats:
            assert re.search(rf"\b{own.name}\b", listed[kind]), own.name
        assert f"({', '.join(own.name for own in formats)})" in said


def test_the_values_of_the_attributes_are_listed():
    listed = {row[0].strip("`"): row[-1] for row in rows(section(page("outputs"), "cells.csv"))}
    for name, values in ATTRIBUTES.items():
        assert re.findall(r"`([^`]+)`", listed[name]) == list(values)


def test_the_flags_are_listed_and_those_that_can_refuse_a_slide_are_told():
    flags = section(page("outputs"), "Flags of a slide")
    listed_truly("Flags of a slide", SLIDE_FLAGS)
    refusing = {row[0].strip("`") for row in rows(flags) if row[-1] == "yes"}
    assert refusing == {limit.flag for limit in LIMITS if math.isfinite(limit.refused)}
    listed_truly("Flags of a cell", (*CELL_FLAGS, REFUSED))


def test_the_files_and_what_is_in_their_records_are_those_of_a_run_with_everything(call, toy_weights, tmp_path):
    out = tmp_path / "out"
    write_picture(tmp_path / "a.png", spots((100, 100), (350, 100)))
    for number in range(MIN_PICTURES):
        write_picture(tmp_path / f"one camera/{number}.png", spots((40, 30), width=80, height=60))
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "-o", out, "--shard", "0/1")
    inputs = (tmp_path / "a.png", tmp_path / "one camera")
    assert call("analyze", *inputs, *common, "--write", ",".join(PRODUCT_NAMES)).code == 0
    (tmp_path / "corrections.csv").write_text("slide,cell,class\na.png,1,monocyte\n")
    assert call("merge", out, "-o", out, "--review", tmp_path / "corrections.csv").code == 0

    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    shown = {record.parent for record in out.glob("slides/*/slide.json")} - {out / "slides/a.png"}
    files = [name for name in files if out / Path(name).parent not in shown]
    files = [name.replace("a.png", "SLIDE").replace("0-of-1", "I-of-N") for name in files]
    listed_truly("Files", files)
    runs = [json.loads((out / name).read_text()) for name in ("run-0-of-1.json", "run.json")]
    listed_truly("run.json", dict.fromkeys(key for run in runs for key in run))
    record = json.loads((out / "slides/a.png/slide.json").read_text())
    keys = [
        f"{key}.{part}" if part else key
        for key, value in record.items()
        for part in (value if isinstance(value, dict) and key != "products" else ("",))
    ]
    listed_truly("slide.json", keys)
    (acquisition,) = json.loads((out / "acquisitions.json").read_text())["acquisitions"]
    parts = {"key": acquisition.pop("key"), "scales": acquisition.pop("scales")[0]}
    listed_truly("acquisitions.json", (*acquisition, *(f"{key}.{part}" for key in parts for part in parts[key])))
    assert set(header(out / "differential-reviewed.csv")) <= set(names(page("review")))
    features = json.loads((out / "slides/a.png/cells.geojson").read_text())["features"]
    assert set(names(page("qupath"))) == set(features[0]["properties"]["measurements"])


def header(path):
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def test_the_files_columns_and_figures_of_an_evaluation_are_listed(lab, tmp_path):
    lab.add("neutrophil", [make_cell("neutrophil")])
    lab.add("monocyte", [make_cell("neutrophil")])
    write_folder(lab.evaluate(), tmp_path / "out")
    files, columns = re.split(r"\n(?=\| column)", section(page("training"), "What evaluate writes"))
    assert set(names(files)) == {path.name for path in (tmp_path / "out").iterdir()}
    written = {column for path in (tmp_path / "out").glob("*.csv") for column in header(path)}
    assert set(names(columns)) == written
    assert set(names(section(page("training"), "Figures"))) == set(FIGURES)


def test_the_columns_of_a_cross_validation_are_listed(tmp_path):
    write_away({"hidden": [], "given": []}, tmp_path, [])
    listed = names(section(page("training"), "Cross-validation over laboratories"))
    assert set(listed) == set(header(tmp_path / "away.csv"))


def test_the_settings_of_training_are_listed_with_their_defaults():
    own = {f.name: f.default for holder in (TrainSettings, ModelConfig) for f in fields(holder) if f.name != "classes"}
    table = section(page("training"), "Training").partition("| setting")[2]
    listed = {name: row[1] for row in rows(f"| setting{table}") for name in re.findall(r"`([^`]+)`", row[0])}
    assert listed.keys() == own.keys()
    for name, default in own.items():
        assert listed[name] == "on" if default is True else type(default)(listed[name]) == default, name

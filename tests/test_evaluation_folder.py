"""`wbc-cli evaluate -o` leaves a folder that a person and a spreadsheet can read."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from conftest import TOY_UM_PER_PX, spots, write_picture
from lab import SIDE, make_cell, rectangle

from wbc_cli.errors import SlideError, UsageError
from wbc_cli.evaluation import FIGURES
from wbc_cli.evaluation.background import COLOUR, CutOutReader
from wbc_cli.evaluation.folder import write_folder
from wbc_cli.slides.image import ImageReader

TABLES = {"figures.csv", "classes.csv", "confusion.csv", "cells.csv"}
PICTURES = {"confusion.png", "reliability.png", "coverage_risk.png"}


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_scored_cell_has_its_row(lab, tmp_path):
    lab.add("neutrophil", [make_cell("neutrophil", confidence=0.8)], dataset="a")
    lab.add("neutrophil", [make_cell("unidentified", likeliest="monocyte", confidence=0.36)], dataset="a")
    lab.add("neutrophil;monocyte", [make_cell("neutrophil")], dataset="b")
    lab.add("not_blast", [make_cell("lymphocyte", confidence=0.84)], dataset="c")
    lab.add("monocyte", SlideError("bad"), dataset="c")
    write_folder(lab.evaluate(), tmp_path / "out")
    rows = table(tmp_path / "out/cells.csv")
    assert [(row["dataset"], row["truth"], row["answer"], row["right"]) for row in rows] == [
        ("a", "neutrophil", "neutrophil", "True"),
        ("a", "neutrophil", "unidentified", "False"),
        ("b", "neutrophil", "neutrophil", "True"),
        ("b", "monocyte", "missed", "False"),
        ("c", "not_blast", "not_blast", "True"),
        ("c", "monocyte", "missed", "False"),
    ]
    assert [row["image"] for row in rows] == [str(lab.samples[i].image) for i in (0, 1, 2, 2, 3, 4)]
    assert [row["confidence"] for row in rows] == ["0.8", "0.36", "0.9", "", "0.98", ""]
    assert [row["probability"] for row in rows] == ["0.8", "0.08", "0.9", "", "0.98", ""]


def test_the_tables_say_what_the_json_says(lab, tmp_path):
    box = (40, 40, 60, 60)
    for index in range(12):
        lab.add("neutrophil", [make_cell("neutrophil", box)], mask=rectangle(box), dataset="a" if index % 2 else "b")
    lab.add("monocyte", [make_cell("neutrophil")], dataset="a")
    write_folder(lab.evaluate(), tmp_path)
    told = json.loads((tmp_path / "figures.json").read_text())
    assert told["conditions"]["min_confidence"] == 0.5
    sets = {**told["datasets"], "pooled": told["pooled"]}
    figures = {(row["dataset"], row["figure"]): row for row in table(tmp_path / "figures.csv")}
    assert set(figures) == {(name, figure) for name, told in sets.items() for figure in told["figures"]}
    for (name, figure), row in figures.items():
        expected = sets[name]["figures"][figure]
        assert float(row["value"]) == pytest.approx(expected["value"], rel=1e-5)
        assert (int(row["n"]), row["unit"]) == (expected["n"], expected["unit"])
    assert figures["pooled", "accuracy"]["baselines"].startswith("majority 0.923077; background_colour")
    counted = {(row["dataset"], row["truth"]): row for row in table(tmp_path / "confusion.csv")}
    assert counted["a", "monocyte"]["neutrophil"] == "1"
    assert counted["pooled", "neutrophil"]["neutrophil"] == "12"
    classes = table(tmp_path / "classes.csv")
    assert {(row["class"], row["figure"]) for row in classes if row["dataset"] == "a"} == {
        (name, figure) for name in ("neutrophil", "monocyte") for figure in ("sensitivity", "specificity", "f1")
    }


def test_without_typed_cells_there_are_tables_and_no_pictures(lab, tmp_path):
    lab.add("", [])
    write_folder(lab.evaluate(), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"figures.json", *TABLES}


def test_pictures_are_drawn_for_many_sets_and_for_few_cells(lab, tmp_path):
    names = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "erythroblast", "platelet")
    random = np.random.default_rng(0)
    for index in range(210):
        answer = names[index % 7] if random.random() < 0.8 else names[index % 5]
        cell = make_cell(answer, confidence=float(random.uniform(0.3, 1)))
        lab.add(names[index % 7], [cell] if index % 11 else [], dataset=f"set {min(index // 60, 2)}")
    lab.add("blast", [make_cell("blast")], dataset="one cell")
    lab.add("blast", [], dataset="missed")
    write_folder(lab.evaluate(), tmp_path / "out")
    for name in PICTURES:
        picture = cv2.imread(str(tmp_path / "out" / name))
        assert min(picture.shape[:2]) > 500
        assert np.ptp(picture) > 200


# The background


def test_outside_the_mask_all_images_have_one_colour_and_inside_they_keep_theirs(tmp_path):
    image = write_picture(tmp_path / "a.png", spots((240, 100)))
    mask = np.zeros((200, 480), np.uint8)
    mask[80:120, 220:260] = 1
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    reader = CutOutReader(ImageReader(image), tmp_path / "mask.png")
    seen = reader.read(0, 0, 480, 200)
    kept = np.zeros((200, 480), bool)
    kept[78:122, 218:262] = True  # two pixels around the mask belong to the cell
    assert (seen[~kept] == COLOUR).all()
    assert np.array_equal(seen[kept], spots((240, 100))[kept])
    assert np.array_equal(reader.read(210, 70, 60, 60), seen[70:130, 210:270])
    assert reader.read(0, 0, 480, 200, 4.0).shape == (50, 120, 3)
    assert (reader.um_per_px, reader.path) == (None, image)


def test_with_a_constant_background_it_tells_nothing_and_images_without_masks_are_left_out(lab):
    for index in range(40):
        name = "neutrophil" if index % 2 else "monocyte"
        mask = rectangle((40, 40, 60, 60))
        lab.add(name, [make_cell("neutrophil")], mask=mask, grey=60 + 100 * (index % 2))
    lab.add("neutrophil", [make_cell("neutrophil")])
    as_it_is, constant = (lab.evaluate(constant_background=b).pooled for b in (False, True))
    assert (as_it_is.images, constant.images) == (41, 40)
    assert as_it_is.figures["accuracy"].baselines["background_colour"] == 1
    assert constant.figures["accuracy"].baselines["background_colour"] <= 0.5


def test_what_the_pipeline_sees_has_the_constant_background(lab):
    seen = []

    def analyse(reader, um_per_px, shared):
        seen.append(reader.read(0, 0, SIDE, SIDE))
        return lab.analyse(reader, um_per_px)

    lab.add("neutrophil", [make_cell("neutrophil")], mask=rectangle((40, 40, 60, 60)), grey=100)
    lab.evaluate(analyse=analyse, constant_background=True)
    assert tuple(seen[0][0, 0]) == COLOUR
    assert tuple(seen[0][50, 50]) == (100, 100, 100)


def test_without_any_mask_a_constant_background_is_wrong_usage(lab):
    lab.add("neutrophil", [])
    with pytest.raises(UsageError, match="masks"):
        lab.evaluate(constant_background=True)


# The command


@pytest.fixture
def evaluate(call, toy_weights, tmp_path):
    """Three labelled pictures, one with a mask, put to the toy network; further arguments as given."""
    folder = tmp_path / "data"
    lines = ["image,label,dataset,um_per_px,mask"]
    for index, name in enumerate(("neutrophil", "monocyte", "eosinophil")):
        write_picture(folder / f"{index}.png", spots((240, 100), radius=22 + 3 * index))
        lines.append(f"{index}.png,{name},{'ab'[index % 2]},{TOY_UM_PER_PX},{'mask.png' if index == 0 else ''}")
    mask = np.zeros((200, 480), np.uint8)
    cv2.circle(mask, (240, 100), 22, 1, -1)
    cv2.imwrite(str(folder / "mask.png"), mask)
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")

    def run(*arguments):
        common = ("--weights", toy_weights, "--device", "cpu", "-o", tmp_path / "out")
        return call("evaluate", folder / "manifest.csv", *common, *arguments)

    return run


def test_evaluate_writes_its_folder_with_every_table_and_picture(evaluate, tmp_path):
    answer = evaluate("--faithfulness", "2")
    assert answer.code == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"figures.json", *TABLES, *PICTURES}
    told = json.loads((out / "figures.json").read_text())
    assert told["pooled"]["figures"]["deletion"]["n"] == 2
    assert len(table(out / "cells.csv")) == 3
    assert FIGURES["deletion"] in answer.out


def test_evaluate_prints_its_figures_as_json_and_nothing_else_where_a_program_asks(evaluate, tmp_path):
    answer = evaluate("--json", "--faithfulness", "0")
    assert answer.code == 0
    assert json.loads(answer.out) == json.loads((tmp_path / "out/figures.json").read_text())
    assert "images" in answer.err


def test_evaluate_skips_the_checks_of_faithfulness_where_none_is_wanted(evaluate, tmp_path):
    assert evaluate("--faithfulness", "0").code == 0
    told = json.loads((tmp_path / "out/figures.json").read_text())
    assert "deletion" not in told["pooled"]["figures"]


def test_evaluate_says_how_many_images_a_constant_background_leaves_out(evaluate, tmp_path):
    answer = evaluate("--constant-background", "--faithfulness", "0")
    assert answer.code == 0
    assert "images without a mask, left out: 2" in answer.err
    told = json.loads((tmp_path / "out/figures.json").read_text())
    assert told["pooled"]["images"] == 1
    assert told["conditions"]["constant_background"] is True

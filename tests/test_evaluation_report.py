"""Every figure stands beside its n, its interval and its trivial baselines."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from lab import make_cell, rectangle
from rich.console import Console

from wbc_cli.cells import Scale, SlideResult
from wbc_cli.errors import SlideError
from wbc_cli.evaluation import FIGURES, Conditions, evaluate, tables
from wbc_cli.manifest import WHITE_CELL, Box, read_manifest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def test_baselines_stand_beside_the_accuracy(lab):
    for index in range(20):  # dark borders are neutrophils: colour alone tells the class
        lab.add("neutrophil", [], grey=60 + index)
        lab.add("monocyte", [], grey=160 + index)
    lab.add("monocyte", [], grey=200)
    accuracy = lab.figures()["accuracy"]
    assert accuracy.value == 0
    assert accuracy.baselines["majority"] == pytest.approx(21 / 41)
    assert accuracy.baselines["background_colour"] == 1


def test_colour_that_tells_nothing_scores_like_the_majority(lab):
    for index in range(40):
        lab.add("neutrophil" if index % 4 else "monocyte", [], grey=100)
    assert lab.figures()["accuracy"].baselines == {
        "majority": 0.75,
        "background_colour": pytest.approx(0.75),
    }


def test_the_json_is_plain_and_every_figure_has_its_n_interval_and_baselines(lab):
    lab.add("neutrophil", [make_cell("neutrophil")], mask=rectangle((40, 40, 60, 60)), dataset="a")
    lab.add("", [make_cell("neutrophil")], dataset="b")
    lab.add("blast", SlideError("bad"), dataset="a")
    text = json.dumps(lab.evaluate().to_dict(), allow_nan=False)
    found = json.loads(text)
    assert list(found) == ["conditions", "datasets", "pooled", "failures"]
    assert list(found["datasets"]) == ["a", "b"]
    assert found["failures"] == [{"image": str(lab.samples[2].image), "reason": "bad"}]
    assert found["pooled"]["images"] == 3
    for part in (found["pooled"], *found["datasets"].values()):
        assert set(part) == {"images", "failed", "figures", "classes", "confusion"}
        assert part["figures"]
        for figure in part["figures"].values():
            assert set(figure) == {"value", "low", "high", "n", "unit", "baselines"}
    assert found["pooled"]["confusion"]["neutrophil"]["neutrophil"] == 1


def test_the_tables_show_every_figure_of_every_set(lab):
    box = (40, 40, 60, 60)
    lab.add("not_blast", [make_cell("lymphocyte", box)], boxes=[Box(WHITE_CELL, *box)], dataset="one")
    lab.add("neutrophil", [make_cell("neutrophil", box)], mask=rectangle(box), dataset="two")
    evaluation = lab.evaluate()
    console = Console(file=io.StringIO(), width=200)
    for table in tables(evaluation):
        console.print(table)
    text = console.file.getvalue()
    for summary in (*evaluation.datasets, evaluation.pooled):
        assert summary.name in text
        assert all(FIGURES[name] in text for name in summary.figures)
    assert "Not a blast" in text
    assert "majority 1.000" in text
    assert len(tables(evaluation)) == 6


@pytest.mark.skipif(not (DATA / "manifest.csv").exists(), reason="the shared data folder is absent")
def test_an_oracle_scores_full_marks_on_real_truth():
    samples = [s for s in read_manifest(DATA / "manifest.csv") if s.split == "test"]
    kept = [s for s in samples if s.dataset == "bccd"] + [s for s in samples if s.dataset == "negatives"][:5]
    truth = {s.image: s for s in kept}

    def oracle(reader, um_per_px, shared):
        image = reader.path
        cells = [
            make_cell(truth[image].labels[0], (int(b.x0), int(b.y0), int(b.x1), int(b.y1)), cam=np.ones((480, 640)))
            for b in truth[image].boxes
            if b.label == WHITE_CELL
        ]
        return SlideResult(image.name, image, 640, 480, Scale(0.07, "file"), tuple(cells), 1)

    conditions = Conditions(min_confidence=0.5)
    bccd, negatives = evaluate(kept, oracle, conditions, progress=lambda done, total: None).datasets
    assert negatives.figures["negatives_right"].value == 1
    assert (bccd.figures["accuracy"].value, bccd.figures["accuracy"].n) == (1, 71)
    assert bccd.figures["accuracy"].baselines["majority"] == pytest.approx(48 / 71)
    assert bccd.figures["detection_f1"].value == 1
    assert 0.5 < bccd.figures["cell_iou"].value < 0.95  # a box around a cell is no outline

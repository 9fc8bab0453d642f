"""Cells unlike all that the model has learned from are told apart, and others are not."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from conftest import write_picture

from wbc_cli.model.typicality import Typicality
from wbc_cli.run.loading import ComputeOptions, load_analyser
from wbc_cli.slides import open_slide
from wbc_cli.slides.reader import INVERTED
from wbc_cli.synthetic.smear import Smear

WIDTH = 6


def cells(count, seed, centre=0.0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.2, 3.0, WIDTH)
    return centre + spread * torch.randn(count, WIDTH, generator=generator)


@pytest.fixture(scope="module")
def fitted():
    typicality = Typicality(WIDTH, 4)
    pooled = torch.cat([cells(400, 0), cells(400, 1, 10.0), cells(2, 2, -50.0)])
    labels = torch.tensor([0] * 400 + [2] * 400 + [3] * 2)
    typicality.fit(pooled, labels, torch.cat([cells(500, 3), cells(500, 4, 10.0)]), 0.99)
    return typicality


def test_before_it_is_fitted_every_cell_is_typical():
    assert (Typicality(WIDTH, 4)(cells(10, 5, 100.0)) == 0).all()


def test_nearly_all_cells_like_the_training_ones_are_typical(fitted):
    fresh = torch.cat([cells(2000, 6), cells(2000, 7, 10.0)])
    assert float((fitted(fresh) <= 1).float().mean()) > 0.99


def test_cells_between_and_beyond_the_classes_are_atypical(fitted):
    assert (fitted(cells(100, 8, 5.0)) > 1).float().mean() > 0.9
    assert (fitted(cells(100, 9, -50.0)) > 1).all()  # two cells make no class


def test_an_offset_counts_by_how_much_the_features_vary_along_it(fitted):
    steady, varied = torch.zeros(2, 1, WIDTH)
    steady[0, 0], varied[0, -1] = 3.0, 3.0
    assert float(fitted(steady)) > 1 > float(fitted(varied))


def test_without_cells_of_a_class_nothing_is_fitted():
    typicality = Typicality(WIDTH, 4)
    typicality.fit(cells(3, 0), torch.tensor([0, 1, 2]), cells(10, 1), 0.99)
    assert (typicality(cells(10, 5, 100.0)) == 0).all()


def test_in_negatives_of_fields_few_objects_are_given_a_white_cells_type_and_every_field_has_a_flag(tmp_path):
    """In 20 such fields 34 objects are seen and 7 typed, all but one of these with a flag of their own as well."""
    analyser, _ = load_analyser(ComputeOptions())
    cells = []
    with analyser.stream:
        for seed in range(11, 31):
            field = Smear(480, 400, 0.15, white_cells=4, seed=seed).render(0, 0, 480, 400)
            write_picture(tmp_path / "negative.png", 255 - field)
            with closing(open_slide(tmp_path / "negative.png")) as reader:
                result = analyser.analyse(reader, "negative", 0.15)
            assert INVERTED in result.flags
            cells += result.cells
    typed = [cell for cell in cells if cell.class_name not in ("unidentified", "platelet")]
    assert len(cells) > 10
    assert len(typed) <= 8
    assert sum(not {"explanation", "atypical"} & set(cell.flags) for cell in typed) <= 1
    assert any("atypical" in cell.flags for cell in cells)

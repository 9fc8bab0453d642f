"""A stated scale that the cells clearly contradict is called doubtful, and a right one is not."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch
from conftest import write_picture
from fakes import ArrayReader

from wbc_cli.cells import Scale
from wbc_cli.inference.scale_estimation import check_scale, disagrees
from wbc_cli.model.files import default_folder
from wbc_cli.model.storage import load
from wbc_cli.run.loading import ComputeOptions, load_analyser
from wbc_cli.slides import open_slide
from wbc_cli.synthetic.smear import Smear

SCALES = (0.1, 0.13, 0.16, 0.22, 0.25)
SIZES = ((640, 480),) * 4 + ((1600, 1200),)  # the last is a part of a slide, whose cells are too small in an overview


@pytest.fixture(scope="module")
def fields():
    """Synthetic fields with their true micrometres per pixel."""
    return [
        (ArrayReader(Smear(*size, scale, white_cells=5, seed=100 + i).render(0, 0, *size)), scale)
        for i, (scale, size) in enumerate(zip(SCALES, SIZES, strict=True))
    ]


@pytest.fixture(scope="module")
def estimator():
    return load(default_folder()).network.scale


@pytest.mark.parametrize("factor", [0.5, 2.0, 2.54, 1 / 2.54, 0.1, 10.0])
def test_half_double_per_inch_for_per_centimetre_and_tenfold_are_flagged(fields, estimator, factor):
    with torch.no_grad():
        checked = [check_scale(estimator, reader, Scale(scale * factor, "file")) for reader, scale in fields]
    assert all(scale.contradicted_by is not None for scale in checked)
    assert [scale.um_per_px for scale in checked] == [true * factor for true in SCALES]  # what is stated is used


def test_the_right_scale_is_not_doubted(fields, estimator):
    with torch.no_grad():
        checked = [check_scale(estimator, reader, Scale(scale, "option")) for reader, scale in fields]
    assert all(scale.contradicted_by is None for scale in checked)


def test_an_estimate_that_is_unsure_contradicts_nothing():
    stated = Scale(0.25, "file")
    assert disagrees(stated, Scale(0.1, "estimate", 0.15))
    assert not disagrees(stated, Scale(0.1, "estimate", 0.6))
    assert not disagrees(stated, Scale(0.2, "estimate", 0.05))


def test_a_picture_with_a_wrong_scale_says_so_in_its_flags(tmp_path):
    field = Smear(480, 400, 0.16, white_cells=4, seed=3).render(0, 0, 480, 400)
    picture = write_picture(tmp_path / "field.png", np.ascontiguousarray(field))
    analyser, _ = load_analyser(ComputeOptions())
    with analyser.stream, closing(open_slide(picture)) as reader:
        assert "scale_doubtful" in analyser.analyse(reader, "field", 0.4).flags
        assert "scale_doubtful" not in analyser.analyse(reader, "field", 0.16).flags

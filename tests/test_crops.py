"""A crop of one cell, which shows hardly any red cells, is looked at whatever the prior makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import ArrayReader

from wbc_cli.inference.engine import Engine
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.stream import Stream
from wbc_cli.model.files import default_folder
from wbc_cli.model.storage import load
from wbc_cli.synthetic.smear import Smear

UM_PER_PX = 0.2


@pytest.fixture(scope="module")
def blind():
    """The shipped model with a prior that sees nothing."""
    engine = Engine(load(default_folder()).network, torch.device("cpu"), torch.float32)
    engine.saliency = lambda density: np.zeros((len(density), *(-(-side // 2) for side in density.shape[1:3])))
    with Stream(engine, 1) as stream:
        yield Analyser(stream, 0.0)


@pytest.mark.parametrize(("width", "found"), [(100, 1), (140, 1), (200, 0)])
def test_a_picture_of_one_windows_size_needs_no_candidate(blind, width, found):
    smear = Smear(600, 600, UM_PER_PX, 1, seed=2)
    cell = smear.truth[0]
    left, top = (max(0, min(600 - width, round(middle - width / 2))) for middle in (cell.x, cell.y))
    result = blind.analyse(ArrayReader(smear.render(left, top, width, width), UM_PER_PX), "crop")
    assert len(result.cells) == found
    assert result.windows == found

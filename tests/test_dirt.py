"""Dirt is no white cell: what takes up all colours alike is counted as other, in pictures that have colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import ArrayReader
from test_assembly import predict_discs

from wbc_cli.cells import UNKNOWN
from wbc_cli.classes import BLAST, CLASS_NAMES, OTHER
from wbc_cli.inference.engine import Engine
from wbc_cli.inference.neutral_density import evenness
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.stream import Stream
from wbc_cli.inference.windows import Window

SIDE = 160
GLASS, RED_CELL = (232, 226, 214), (205, 150, 140)
NUCLEUS, DARK_NUCLEUS, RED_NUCLEUS, DIRT = (110, 60, 140), (45, 14, 70), (120, 40, 100), (22, 22, 25)


def window(middle, *, grey=False):
    """A window with a red cell beside what lies in its middle; and where that is, at the maps' stride."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    rgb = np.full((SIDE, SIDE, 3), GLASS, np.uint8)
    rgb[(rows - 30) ** 2 + (columns - 30) ** 2 < 20**2] = RED_CELL
    inside = (rows - SIDE // 2) ** 2 + (columns - SIDE // 2) ** 2 < 15**2
    rgb[inside] = middle
    if grey:
        rgb[:] = rgb.mean(axis=2, keepdims=True)
    return rgb, inside[::2, ::2].astype(np.float32)


def evenness_of(*pictures):
    rgb, nuclei = (np.stack(parts) for parts in zip(*pictures, strict=True))
    owners = torch.arange(len(pictures))
    return evenness(torch.from_numpy(rgb).permute(0, 3, 1, 2), torch.from_numpy(nuclei), owners).tolist()


@pytest.mark.parametrize("light", [1.0, 0.6])
def test_dirt_takes_up_all_colours_alike_and_no_nucleus_does_in_any_light(light):
    pictures = [window(middle) for middle in (DIRT, NUCLEUS, DARK_NUCLEUS, RED_NUCLEUS)]
    dimmed = [((rgb * light).astype(np.uint8), inside) for rgb, inside in pictures]
    dirt, *nuclei = evenness_of(*dimmed)
    assert dirt > 0.8
    assert max(nuclei) < 0.5


def test_dirt_on_a_red_cell_is_told_by_its_dark_part():
    rgb, inside = window(RED_CELL)
    rgb[74:86, 74:86] = DIRT
    assert evenness_of((rgb, inside)) == [pytest.approx(0.85, abs=0.15)]


def test_in_greyish_light_a_nucleus_is_no_dirt_since_red_cells_are_greyer_still():
    rgb, inside = window((70, 45, 75))
    rgb[(rgb == RED_CELL).all(axis=2)] = (150, 140, 150)
    assert evenness_of((rgb, inside)) == [0]


def test_a_picture_without_colour_has_no_dirt_by_this():
    assert evenness_of(window(NUCLEUS, grey=True), window(DIRT, grey=True)) == [0, 0]


@pytest.mark.parametrize("confidence", [0.7, 0.9])
def test_two_signs_outweigh_a_type_and_no_confidence_in_it_is_shown(toy_network, monkeypatch, confidence):
    probabilities = np.full(len(CLASS_NAMES), (1 - confidence) / (len(CLASS_NAMES) - 1), np.float32)
    probabilities[CLASS_NAMES.index(BLAST)] = confidence
    prediction = predict_discs(Window(0, 0, SIDE), (80, 80, 40))
    logits = toy_network.config.temperature * np.log(probabilities)
    doubtful = [replace(cell, logits=logits, saliency=0.05, cam_in_cell=0.2) for cell in prediction.cells]
    engine = Engine(toy_network, torch.device("cpu"), torch.float32, cores=1)
    monkeypatch.setattr(engine, "predict", lambda windows, _: [replace(prediction, cells=tuple(doubtful))])
    with Stream(engine, 1) as stream:
        found = Analyser(stream, 0.5).analyse(ArrayReader(window(NUCLEUS)[0]), "a", 0.2, population=UNKNOWN)
    (cell,) = found.cells
    assert cell.class_name == OTHER
    assert cell.confidence == pytest.approx(probabilities[CLASS_NAMES.index(OTHER)], rel=1e-3)
    assert "no_cells" in found.flags

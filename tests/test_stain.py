"""Stain normalisation: the same cells in other colours look the same to the network."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.saliency import background_colour
from wbc_cli.model.stain import REFERENCE_DENSITIES, normalise_stain

SIDE = 160
NUCLEAR, CYTOPLASMIC = np.array(REFERENCE_DENSITIES), np.array((0.35, 0.5, 0.2))
CHANNEL = st.floats(0.5, 1.8)


def densities():
    """One cell: optical densities [S, S, 3] and where its nucleus is."""
    cell, nucleus = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(cell, (80, 80), 35, 1, -1)
    cv2.circle(nucleus, (85, 80), 20, 1, -1)
    return cell[..., None] * CYTOPLASMIC + nucleus[..., None] * (NUCLEAR - CYTOPLASMIC), nucleus


def window(density, background=(1.0, 1.0, 1.0)):
    """RGB [1, 3, S, S] of light through a stain."""
    return torch.from_numpy(np.array(background) * np.exp(-density)).permute(2, 0, 1)[None].float()


def normalised(rgb, nucleus):
    saliency = torch.from_numpy(cv2.GaussianBlur(nucleus.astype(np.float32), (0, 0), 8))[None, None]
    return normalise_stain(rgb, saliency, background_colour(rgb))


@given(st.tuples(CHANNEL, CHANNEL, CHANNEL), st.tuples(*[st.floats(0.5, 1.0)] * 3))
def test_dyes_and_light_of_another_laboratory_change_little_of_what_the_network_sees(dye, light):
    density, nucleus = densities()
    usual = normalised(window(density), nucleus)
    other = normalised(window(density * dye, light), nucleus)
    assert float((usual - other).abs().mean()) < 0.02
    inside = torch.from_numpy(nucleus > 0)
    assert torch.allclose(usual[0][:, inside].mean(dim=1), other[0][:, inside].mean(dim=1), atol=0.05)


def test_nuclei_come_to_the_reference_and_background_to_white():
    density, nucleus = densities()
    seen = normalised(window(density * (1.5, 0.7, 1.2), (0.9, 0.95, 0.7)), nucleus)[0]
    found = -torch.log(seen[:, torch.from_numpy(nucleus > 0)].mean(dim=1) / seen[:, 0, 0])
    assert found.tolist() == pytest.approx(REFERENCE_DENSITIES, rel=0.1)
    assert seen[:, 0, 0].tolist() == pytest.approx([0.94] * 3, abs=0.02)


def test_where_the_prior_sees_no_cell_colours_stay_as_they_are():
    density, _ = densities()
    rgb = window(0.3 * density, (0.94, 0.94, 0.94))
    seen = normalised(rgb, np.zeros((SIDE, SIDE), np.uint8))
    assert torch.allclose(seen, rgb, atol=0.03)


def test_it_is_a_switch_of_the_network(toy_network):
    rgb = window(densities()[0] * 1.6)
    answers = {}
    for on in (True, False):
        network = SGCLDFF(replace(toy_network.config, stain=on)).eval()
        network.load_state_dict(toy_network.state_dict())
        with torch.inference_mode():
            answers[on] = network(rgb).features
    assert not torch.equal(answers[True], answers[False])

"""The losses of training are what they say, and zero where nothing is known or all is right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.training.data import IGNORE, NOT_BLAST_TYPE, UNKNOWN_TYPE
from wbc_cli.training.losses import alignment_loss, offset_loss, offset_target, segment_loss, type_loss


def test_offset_targets_point_from_each_pixel_to_the_middle_of_its_cell():
    ignored = IGNORE
    code = torch.tensor(
        [
            [[4, 5, 6, 0], [0, 0, 0, 0], [0, 0, 9, 9], [ignored, 0, 9, 9]],
            [[0, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0, 0], [0, 0, 0, ignored]],
        ]
    )
    target, inside = offset_target(code)
    assert torch.equal(inside, ((code > 0) & (code != ignored)).float())
    x = torch.zeros(4, 4)
    y = torch.zeros(4, 4)
    x[0, :3] = torch.tensor([2.0, 0.0, -2.0])  # window pixels, two a map pixel
    x[2:, 2], x[2:, 3] = 1.0, -1.0
    y[2, 2:], y[3, 2:] = 1.0, -1.0
    known = inside[0] > 0
    assert torch.equal(target[0, 0][known], x[known])
    assert torch.equal(target[0, 1][known], y[known])
    assert torch.equal(target[1, :, 1, 1], torch.zeros(2))


def test_offset_loss_is_zero_for_exact_offsets_wherever_nothing_is_known():
    code = torch.full((1, 8, 8), IGNORE)
    code[0, 2:5, 3:6] = 4 * 3 + 2
    target, inside = offset_target(code)
    wild = torch.where(inside[:, None] > 0, target, 1000.0)
    assert float(offset_loss(wild, code)) == 0
    assert float(offset_loss(wild + 16, code)) == pytest.approx(2 * 0.95)  # smooth L1 of 1 with beta 0.1, in x and y
    assert float(offset_loss(wild, torch.full((1, 8, 8), IGNORE))) == 0


def test_alignment_loss_is_the_share_of_the_energy_outside_the_cell():
    pool = torch.zeros(1, 20, 20)
    pool[0, 5:10, 5:10] = 1
    inside, outside = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)
    inside[0, 6:9, 6:9] = 3.0
    outside[0, 15:18, 2:5] = 3.0

    def loss(*maps, chosen=None):
        known = torch.tensor(chosen or [True] * len(maps))
        return float(alignment_loss(torch.cat(maps), pool.repeat(len(maps), 1, 1), known))

    assert loss(inside) == pytest.approx(0, abs=1e-6)
    assert loss(outside) == pytest.approx(1, abs=1e-4)
    assert loss(inside + outside) == pytest.approx(0.5, abs=1e-4)
    assert loss(inside, outside) == pytest.approx(0.5, abs=1e-4)
    assert loss(inside, outside, chosen=[False, True]) == pytest.approx(1, abs=1e-4)
    assert loss(outside, chosen=[False]) == 0


@given(st.integers(0, 1000))
def test_alignment_loss_lies_between_0_and_1_and_does_not_depend_on_the_maps_height(seed):
    generator = torch.Generator().manual_seed(seed)
    cam = torch.rand(3, 20, 20, generator=generator)
    pool = (torch.rand(3, 20, 20, generator=generator) > 0.9).float()
    every = torch.ones(3, dtype=torch.bool)
    loss = float(alignment_loss(cam, pool, every))
    assert 0 <= loss <= 1
    assert float(alignment_loss(100 * cam, pool, every)) == pytest.approx(loss, abs=1e-4)


def test_segment_loss_forgives_what_is_not_known():
    code = torch.full((1, 8, 8), IGNORE)
    code[0, :4] = 0
    code[0, :2] = 4 + 2
    right = torch.zeros(1, 3, 8, 8)
    right[0, 0, 2:4] = 20
    right[0, 2, :2] = 20
    wrong = right.clone()
    wrong[0, 1, 4:] = 20
    assert float(segment_loss(right, code, True)) < 0.01
    assert torch.equal(segment_loss(wrong, code, True), segment_loss(right, code, True))
    wrong[0, 1, 3] = 40
    assert float(segment_loss(wrong, code, True)) > 1
    assert float(segment_loss(wrong, torch.full((1, 8, 8), IGNORE), True)) == 0


def test_a_normal_cell_of_unknown_type_only_speaks_against_blast():
    blast = CLASS_NAMES.index("blast")
    weights = torch.ones(len(CLASS_NAMES))
    logits = torch.zeros(1, len(CLASS_NAMES)).requires_grad_()
    type_loss(logits, torch.tensor([NOT_BLAST_TYPE]), weights).backward()
    others = [i for i in range(len(CLASS_NAMES)) if i != blast]
    assert logits.grad[0, blast] > 0
    assert (logits.grad[0, others] < 0).all()
    assert logits.grad[0, others].std() < 1e-6
    assert float(type_loss(logits.detach(), torch.tensor([UNKNOWN_TYPE]), weights)) == 0

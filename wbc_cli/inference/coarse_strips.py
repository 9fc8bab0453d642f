"""A slide at the prior's coarse scale, in strips, so that each of its tiles is decoded once and memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from wbc_cli.model.saliency import COARSE_UM_PER_PX
from wbc_cli.resources.parallel import Tasks
from wbc_cli.slides.reader import RGBImage, SlideReader

BLOCK_PX = 4096
"""The side in level-0 pixels of what is read at once, or a power of two less: whole tiles in the usual pyramids."""

MAX_BLOCK_PX = 512
"""Coarse pixels that a block's side may have, about: memory does not grow with the size of the pixels."""

MARGIN_PX = 24
"""Coarse pixels around a block, as far as the prior's receptive field and its peaks reach; even, as its stride is."""


@dataclass(frozen=True)
class Grid:
    """A slide in square blocks, each an even number of coarse pixels wide.

    Attributes:
        width, height: of the slide in level-0 pixels.
        block: side of a whole block in level-0 pixels.
        side: the same in coarse pixels.
    """

    width: int
    height: int
    block: int
    side: int

    @classmethod
    def of(cls, reader: SlideReader, um_per_px: float) -> Grid:
        """Choose the grid whose coarse pixels come nearest to COARSE_UM_PER_PX."""
        block = BLOCK_PX
        while block * um_per_px / COARSE_UM_PER_PX > 1.5 * MAX_BLOCK_PX:
            block //= 2
        return cls(reader.width, reader.height, block, 2 * max(1, round(block * um_per_px / COARSE_UM_PER_PX / 2)))

    @property
    def unit(self) -> float:
        """The side of a coarse pixel in level-0 pixels."""
        return self.block / self.side

    def coarse(self, length: int) -> int:
        """Convert a length of the slide from level-0 to coarse pixels, at least 1."""
        return max(1, round(length / self.unit))


@dataclass(frozen=True, eq=False)
class Strip:
    """A row of blocks at the coarse scale.

    Attributes:
        rows: uint8 [h, w, 3], with a margin above and below where the slide goes on.
        top: coarse row of the slide that `rows` begin at.
        first: the first coarse row of the slide that is the strip's own, and no margin.
    """

    rows: RGBImage
    top: int
    first: int


def strips(reader: SlideReader, grid: Grid, tasks: Tasks) -> Iterator[Strip]:
    """Read a slide row of blocks by row of blocks, top to bottom, each block once."""

    def read(x: int, y: int) -> RGBImage:
        width, height = min(grid.block, grid.width - x), min(grid.block, grid.height - y)
        block = read_coarse(reader, x, y, width, height, grid.unit)
        size = (grid.coarse(width), grid.coarse(height))
        return block if block.shape[1::-1] == size else cv2.resize(block, size, interpolation=cv2.INTER_AREA)

    def read_rows() -> Iterator[RGBImage | None]:
        columns = range(0, grid.width, grid.block)
        # Rows are read ahead, so that reading goes on while the prior runs.
        waiting = None
        for y in range(0, grid.height, grid.block):
            coming = [tasks.submit(read, x, y) for x in columns]
            rows = np.concatenate([block.result() for block in waiting], axis=1) if waiting else None
            waiting = coming  # before they are used: the blocks of a wide slide are let go of
            if rows is not None:
                yield rows
        yield np.concatenate([block.result() for block in waiting or ()], axis=1)
        yield None

    above: RGBImage | None = None
    first = 0
    for own, below in pairwise(read_rows()):
        assert own is not None
        top = first - (0 if above is None else len(above))
        parts = (above, own, None if below is None else below[:MARGIN_PX])
        yield Strip(np.concatenate([part for part in parts if part is not None]), top, first)
        first += len(own)
        above = own[-MARGIN_PX:].copy()  # a view would keep all of the row


def read_coarse(reader: SlideReader, x: int, y: int, width: int, height: int, downsample: float) -> RGBImage:
    """Read at a downsample that may be below 1, for pictures coarser than the prior's pixels."""
    rgb = reader.read(x, y, width, height, max(1.0, downsample))
    if downsample < 1:
        size = (max(1, round(width / downsample)), max(1, round(height / downsample)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return rgb

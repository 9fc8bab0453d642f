"""The candidates of the saliency prior on one slide, for whoever measures the prior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbc_cli.inference.coarse import candidates, densities, prior_pixels, slide_colours
from wbc_cli.inference.field_of_view import within_field
from wbc_cli.inference.stream import Stream
from wbc_cli.model.saliency import COARSE_UM_PER_PX
from wbc_cli.resources.parallel import Tasks
from wbc_cli.slides.reader import RGBImage, SlideReader

_SQUARE_PX = 1024  # coarse pixels of a side: memory does not grow with the slide


@dataclass(frozen=True, eq=False)
class PriorCandidates:
    """They are what the saliency prior takes for white cells on one slide.

    Attributes:
        positions: float64 [n, 2], x and y of the candidates in level-0 pixels.
        area_share: share of the area whose saliency reaches the working threshold, 0 to 1.
    """

    positions: NDArray[np.float64]
    area_share: float


def prior_candidates(stream: Stream, reader: SlideReader, um_per_px: float) -> PriorCandidates:
    """Run the coarse pass as `analyze` does.

    Args:
        stream: the engine with the prior, and threads that read.
        reader: the open slide.
        um_per_px: the micrometres a level-0 pixel that the analysis took.

    Raises:
        SlideError: a region cannot be read.
    """
    engine = stream.engine
    threshold = engine.config.saliency_threshold
    reader = within_field(reader)
    colours = slide_colours(reader, um_per_px)
    with Tasks(stream.readers) as tasks:
        positions = candidates(reader, engine.saliency, um_per_px, colours, threshold, tasks)
    kept = total = 0
    for square in _squares(reader, um_per_px):
        density = densities(square, colours.background)
        saliency = engine.saliency(prior_pixels(density, colours.statistics)[None])
        kept += int(np.count_nonzero(saliency >= threshold))
        total += saliency.size
    return PriorCandidates(positions, kept / total)


def _squares(reader: SlideReader, um_per_px: float) -> Iterator[RGBImage]:
    """Read the slide at the prior's scale, square by square."""
    downsample = max(1.0, COARSE_UM_PER_PX / um_per_px)
    side = round(_SQUARE_PX * downsample)
    for y in range(0, reader.height, side):
        for x in range(0, reader.width, side):
            yield reader.read(x, y, min(side, reader.width - x), min(side, reader.height - y), downsample)

"""Whether a slide shows its cells well enough for them to be typed: focus, exposure, stain, crowding, likeness.

Beyond the first limit of a figure types are visibly less often right, and the slide is flagged. Beyond the second they
are worthless, and it is refused: it keeps its cells, but has no differential, and its row says why. A refused slide is
no failure of the tool, so the exit code does not tell of it. The limits were read off degraded copies of validation
images; the model card has the table.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from wbc_cli.cells import Quality
from wbc_cli.slides.reader import NO_COLOUR


@dataclass(frozen=True)
class Limit:
    """From where on a figure is flagged, and from where on its slide is refused.

    Attributes:
        figure: an attribute of `Quality`.
        flag: its short word in tables.
        flagged: the last value that is not.
        refused: the last value that is not; above or below `flagged`, as high or low values are the bad ones, and
            infinite where no value makes types worthless.
        reason: what is wrong, and what to do about it.
    """

    figure: str
    flag: str
    flagged: float
    refused: float
    reason: str

    def beyond(self, value: float | None, limit: float) -> bool:
        """Tell whether a value is worse than one of the limits; what could not be measured is not."""
        if value is None:
            return False
        return value > limit if self.refused > self.flagged else value < limit


LIMITS = (
    Limit("focus", "blurred", 0.50, 0.42, "out of focus, or too few pixels a micrometre: focus and take it again"),
    Limit("background", "dark", 40, 15, "too dark: expose it longer"),
    Limit("clipped", "overexposed", 0.20, 0.60, "overexposed, so that cells are white: expose it shorter"),
    Limit("nucleus", "pale_stain", 0.50, 0.30, "nuclei hardly stained: stain it again"),
    Limit("colour", NO_COLOUR, 0.15, -math.inf, "without colour"),
    Limit("hue", "odd_colours", -0.15, -math.inf, "nuclei redder than blue: are the channels in the right order?"),
    Limit("crowding", "crowded", 0.20, 0.25, "so crowded that cells are missed: take a thinner part of the smear"),
    Limit("atypical", "unfamiliar", 0.20, 0.50, "cells unlike all that the model knows: count them by eye"),
)


def judge(quality: Quality) -> tuple[tuple[str, ...], str]:
    """Hold the figures of a slide against the limits.

    Returns:
        The slide's flags; and the reason why it is refused, in plain words, empty where it is not.
    """
    figures = asdict(quality)
    flags = tuple(limit.flag for limit in LIMITS if limit.beyond(figures[limit.figure], limit.flagged))
    reasons = (
        f"{limit.reason} ({limit.figure} {figures[limit.figure]:g}, limit {limit.refused:g})"
        for limit in LIMITS
        if limit.beyond(figures[limit.figure], limit.refused)
    )
    return flags, "; ".join(reasons)

"""The strip that says what the colours of a picture mean, how many cells there are, and how large they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
from PIL import Image, ImageDraw

from wbc_cli.cells import SlideResult
from wbc_cli.classes import BY_NAME
from wbc_cli.products.drawing import NOTICE
from wbc_cli.products.lettering import FAINT, INK, PAPER, Typeface, typeface
from wbc_cli.slides.reader import RGBImage

SCALE_BARS_UM = (1, 2, 5, 10, 20, 50, 100)


def legend(result: SlideResult, title: str, width: int, size: int, px_per_um: float) -> RGBImage:
    """Draw a strip with a title, the count of each class in its colour, a scale bar, and the notice.

    The classes of the differential are always there, the others where the slide has some.

    Args:
        result: the analysed slide.
        title: what the picture above or below shows.
        width: of the strip in pixels.
        size: of the text in pixels.
        px_per_um: pixels of that picture to a micrometre.

    Returns:
        uint8 [height, width, 3], as high as its lines need.
    """
    counts = Counter(cell.class_name for cell in result.cells)
    shown = [kind for kind in BY_NAME.values() if kind.differential or counts[kind.name]]
    normal, bold, small = typeface(size), typeface(size, bold=True), typeface(round(size * 0.8))
    line, margin, swatch = round(size * 1.7), size, round(size * 0.9)
    strip = Image.new("RGB", (width, line * (len(shown) + 3)), PAPER)
    draw = ImageDraw.Draw(strip)
    bold.write(strip, (margin, line), bold.shortened(title, width - 2 * margin), INK, "lm")
    x, y = margin, 2 * line
    for kind in shown:
        text = f"{kind.label} {counts[kind.name]}"
        needed = swatch + size // 2 + round(normal.width(text)) + size
        if x > margin and x + needed > width:
            x, y = margin, y + line
        draw.rectangle((x, y - swatch // 2, x + swatch, y + swatch // 2), kind.colour)
        normal.write(strip, (x + swatch + size // 2, y), text, INK, "lm")
        x += needed
    y += line
    bar_um = max((um for um in SCALE_BARS_UM if um * px_per_um < width / 5), default=min(SCALE_BARS_UM))
    length = f"{bar_um} µm" + (" (estimated)" if result.scale.source in ("estimate", "pooled") else "")
    free = _draw_scale_bar(strip, length, round(bar_um * px_per_um), (width - margin, y), small)
    small.write(strip, (margin, y), small.shortened(NOTICE, free - 2 * margin), FAINT, "lm")
    return np.asarray(strip)[: y + line]


def _draw_scale_bar(strip: Image.Image, text: str, length: int, end: tuple[int, int], letters: Typeface) -> int:
    """Draw a bar up to its `end` (x, y) with its text before it; returns where that text starts."""
    right, y = end
    left = right - length
    ImageDraw.Draw(strip).rectangle((left, y - 2, right, y + 2), INK)
    letters.write(strip, (left - 8, y), text, INK, "rm")
    return left - 8 - round(letters.width(text))

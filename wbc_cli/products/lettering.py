"""Text on pictures, a word at a time.

Drawing letters is what small pictures' time goes to, and the same words stand on all of them: each is drawn once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.metadata import distribution

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (30, 30, 30)
FAINT: Colour = (110, 110, 110)

_WORDS = 4096  # kept in memory, some hundred bytes each
_MARGIN = 2  # pixels that a letter may reach beyond its advance


@lru_cache(maxsize=32)
def typeface(size: int, bold: bool = False) -> Typeface:
    """Load DejaVu Sans (it comes with matplotlib) in a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    # Not matplotlib.get_data_path(): to import it takes a quarter of a second, and its fonts are all that is wanted.
    file = distribution("matplotlib").locate_file(f"matplotlib/mpl-data/fonts/ttf/{name}")
    return Typeface(ImageFont.truetype(str(file), size))


class Typeface:
    """A font in one size.

    Attributes:
        font: for what Pillow has to draw itself.
        size: in pixels.
    """

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        self.font = font
        self.size = round(font.size)
        self._ascent, self._descent = font.getmetrics()
        self._space = font.getlength(" ")
        self._word = lru_cache(maxsize=_WORDS)(self._draw_word)

    def width(self, text: str) -> float:
        """Measure the pixels from the start of a text to its end."""
        words = text.split(" ")
        return sum(self._word(word)[1] for word in words) + self._space * (len(words) - 1)

    def write(self, canvas: Image.Image, place: tuple[float, float], text: str, colour: Colour, anchor: str) -> None:
        """Write on a canvas.

        Args:
            canvas: RGB, drawn on.
            place: x and y in pixels.
            text: one line.
            colour: of the letters.
            anchor: what of the text lies there, as Pillow has it: l, m or r across, and a, m or s down.
        """
        x = place[0] - self.width(text) * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
        above = {"a": 0.0, "m": (self._ascent + self._descent) / 2, "s": float(self._ascent)}[anchor[1]]
        top = round(place[1] - above)
        for word in text.split(" "):
            letters, advance = self._word(word)
            canvas.paste(colour, (round(x) - _MARGIN, top), letters)
            x += advance + self._space

    def shortened(self, text: str, width: int) -> str:
        """Leave out the middle of a text that is wider than `width` pixels."""
        kept = len(text)
        short = text
        while self.font.getlength(short) > width and kept > 2:
            kept -= 1
            short = f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
        return short

    def _draw_word(self, word: str) -> tuple[Image.Image, float]:
        """Draw the word as a mask, `_MARGIN` from its left edge, and return it with its advance in pixels."""
        advance = self.font.getlength(word)
        letters = Image.new("L", (math.ceil(advance) + 2 * _MARGIN, self._ascent + self._descent))
        ImageDraw.Draw(letters).text((_MARGIN, self._ascent), word, 255, self.font, "ls")
        return letters, advance


def text_colour(background: Colour) -> Colour:
    """Choose black or white, whichever reads better on a colour."""
    red, green, blue = background
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER

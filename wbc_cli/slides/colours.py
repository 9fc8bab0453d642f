"""Whether a picture has the colours of a stained smear in transmitted light."""

from __future__ import annotations

import cv2
import numpy as np

from wbc_cli.slides.reader import INVERTED, NO_COLOUR, RGBImage

_SIDE = 128  # pixels: cells still show
# Of 760 pictures from twelve laboratories none is grey or inverted by these; of the same ones as negatives 70 % are,
# nearly all of those whose stain is strong.
_GREY = 8  # levels between the colours of all but a hundredth of the picture
_LOW, _DARK = 0.45, 130  # of the middle one of all pixels: where between the darkest and the brightest, and its level
_GREEN = 15  # levels by which the brightest are greener than red and blue: stains let all but green through


def colour_flags(image: RGBImage) -> tuple[str, ...]:
    """Tell what is odd about the colours of a whole picture: grey, or the negative of one."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    planes = np.ascontiguousarray(small.T, np.float32)  # numpy is slow along an axis of three
    if np.quantile(np.ptp(planes, axis=0), 0.99) <= _GREY:
        return (NO_COLOUR,)
    light = planes.mean(axis=0)
    low, middle, bright, high = np.quantile(light, [0.02, 0.5, 0.97, 0.98])
    red, green, blue = planes[:, light >= bright].mean(axis=1)
    is_negative = (
        middle < _DARK and middle - low < _LOW * max(1.0, float(high - low)) and green - max(red, blue) > _GREEN
    )
    return (INVERTED,) if is_negative else ()

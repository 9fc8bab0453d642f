"""What the pictures share: views of a slide, outlines, wording."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import NUCLEUS, Cell
from wbc_cli.classes import BY_NAME
from wbc_cli.products.lettering import PAPER, Colour
from wbc_cli.slides.reader import RGBImage, SlideReader

OUTSIDE: Colour = (225, 225, 225)  # beyond the edge of the slide
NOTICE = "Not a diagnosis: for review by a qualified person."


@dataclass(frozen=True)
class View:
    """A rectangle of the slide and the scale it is shown at.

    Attributes:
        x, y, width, height: level-0 pixels; may reach beyond the slide.
        scale: pixels of the picture to one level-0 pixel.
    """

    x: int
    y: int
    width: int
    height: int
    scale: float

    @classmethod
    def square(cls, x: float, y: float, side: float, pixels: int) -> View:
        """Take a square window, shown with `pixels` a side."""
        whole = max(1, round(side))
        return cls(round(x), round(y), whole, whole, pixels / whole)

    def read(self, reader: SlideReader) -> RGBImage:
        """Read what the view shows, OUTSIDE where there is no slide.

        Returns:
            uint8 [round(height * scale), round(width * scale), 3].

        Raises:
            SlideError: the region cannot be decoded.
        """
        shape = (max(1, round(self.height * self.scale)), max(1, round(self.width * self.scale)), 3)
        picture = np.full(shape, OUTSIDE, np.uint8)
        x0, y0, x1, y1 = self._seen(reader)
        target = picture[self.on_slide(reader)]
        if target.size:
            pixels = reader.read(x0, y0, x1 - x0, y1 - y0, max(1.0, 1 / self.scale))
            target[:] = cv2.resize(pixels, target.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        return picture

    def on_slide(self, reader: SlideReader) -> tuple[slice, slice]:
        """Give the rows and columns of the picture that show the slide; the others lie beyond its edges."""
        x0, y0, x1, y1 = self._seen(reader)
        left, right = round((x0 - self.x) * self.scale), round((x1 - self.x) * self.scale)
        top, bottom = round((y0 - self.y) * self.scale), round((y1 - self.y) * self.scale)
        return slice(top, bottom), slice(left, right)

    def _seen(self, reader: SlideReader) -> tuple[int, int, int, int]:
        right, bottom = min(reader.width, self.x + self.width), min(reader.height, self.y + self.height)
        return max(0, self.x), max(0, self.y), right, bottom

    def outlines(self, region: NDArray[np.bool_], x: int, y: int) -> list[NDArray[np.int32]]:
        """Trace a level-0 region smoothly, in pixels of the picture, for cv2 to draw.

        Args:
            region: bool [h, w] at level 0.
            x: its left edge in level-0 pixels.
            y: its upper edge in level-0 pixels.
        """
        left, top = (x - self.x) * self.scale, (y - self.y) * self.scale
        corner = np.floor([left, top]).astype(int) - 1
        size = np.ceil(np.array(region.shape[::-1]) * self.scale).astype(int) + 3
        # pixels are squares: the middle of the first one lies half a pixel from the corner, in both pictures
        shift = np.array([left, top]) - corner + self.scale / 2 - 0.5
        move = np.array([[self.scale, 0, shift[0]], [0, self.scale, shift[1]]])
        shown = cv2.warpAffine(region.astype(np.float32), move, size.tolist(), flags=cv2.INTER_LINEAR)
        if self.scale > 1:
            shown = cv2.GaussianBlur(shown, (0, 0), self.scale / 2)  # or level-0 pixels show as stairs
        contours, _ = cv2.findContours((shown >= 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return [(contour + corner).astype(np.int32) for contour in contours]


def draw_cell(picture: RGBImage, view: View, cell: Cell, colour: Colour, thickness: int) -> None:
    """Outline a cell in its colour on a white halo, and its nucleus with a thin line."""
    x, y = cell.box[:2]
    whole = view.outlines(cell.mask > 0, x, y)
    nucleus = view.outlines(cell.mask == NUCLEUS, x, y)
    cv2.polylines(picture, whole, True, PAPER, thickness + 2, cv2.LINE_AA)
    cv2.polylines(picture, nucleus, True, PAPER, 1, cv2.LINE_AA)
    cv2.polylines(picture, whole, True, colour, thickness, cv2.LINE_AA)


def cell_label(cell: Cell) -> str:
    """Name a cell as pictures do: "Neutrophil 0.97"."""
    return f"{BY_NAME[cell.class_name].label} {cell.confidence:.2f}"


def counted(number: int) -> str:
    """Say how many cells, in words that fit one as well."""
    return "1 cell" if number == 1 else f"{number} cells"


def stacked(pictures: list[RGBImage]) -> RGBImage:
    """Put pictures above each other on paper, each in the middle of the widest one's width."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        left = (width - picture.shape[1]) // 2
        right = width - picture.shape[1] - left
        rows.append(cv2.copyMakeBorder(picture, 0, 0, left, right, cv2.BORDER_CONSTANT, value=PAPER))
    return np.concatenate(rows).astype(np.uint8, copy=False)

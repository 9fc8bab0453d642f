"""A record of what of a slide cannot be read."""

from __future__ import annotations

from itertools import product
from threading import Lock
from typing import NamedTuple


class Rectangle(NamedTuple):
    """A rectangle in level-0 pixels, half open."""

    x0: int
    y0: int
    x1: int
    y1: int


class UnreadableTiles:
    """The level-0 tiles of a slide that turned out to be unreadable; threads may share it."""

    def __init__(self, width: int, height: int, tile_size: tuple[int, int]) -> None:
        """Start with none.

        Args:
            width, height: of the slide, in level-0 pixels.
            tile_size: width and height of a tile.
        """
        self._width, self._height = width, height
        self.tile_size = tile_size
        self._tiles: set[tuple[int, int]] = set()
        self._area = 0
        self._lock = Lock()

    def add(self, x: int, y: int) -> None:
        """Add the tile that a pixel lies in, once."""
        tile_width, tile_height = self.tile_size
        column, row = x // tile_width, y // tile_height
        with self._lock:
            if (column, row) in self._tiles:
                return
            self._tiles.add((column, row))
            inside_x = min(tile_width, self._width - column * tile_width)
            self._area += inside_x * min(tile_height, self._height - row * tile_height)

    @property
    def share(self) -> float:
        """The share of the slide's area that is unreadable, 0 to 1."""
        return self._area / (self._width * self._height)

    def hold(self, x: float, y: float) -> bool:
        """Tell whether a point lies in one of the tiles."""
        return (int(x // self.tile_size[0]), int(y // self.tile_size[1])) in self._tiles

    def touch(self, rectangle: Rectangle) -> bool:
        """Tell whether one of the tiles reaches into a rectangle."""
        if not self._tiles:
            return False
        columns, rows = (
            range(start // side, (end - 1) // side + 1)
            for start, end, side in zip(rectangle[:2], rectangle[2:], self.tile_size, strict=True)
        )
        return any(tile in self._tiles for tile in product(columns, rows))

"""The tiles decoded last."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from wbc_cli.slides.reader import RGBImage


class TileCache:
    """The tiles by their index; the least recently used go when they take too many bytes. Threads may share it."""

    def __init__(self, capacity: int) -> None:
        """Start with no tile.

        Args:
            capacity: bytes.
        """
        self._capacity = capacity
        self._held = 0
        self._tiles: OrderedDict[int, RGBImage] = OrderedDict()
        self._lock = Lock()

    def get(self, index: int) -> RGBImage | None:
        """Return the tile, not to be written to, if it is still there."""
        with self._lock:
            tile = self._tiles.get(index)
            if tile is not None:
                self._tiles.move_to_end(index)
            return tile

    def put(self, index: int, tile: RGBImage) -> None:
        """Keep a tile, which nobody writes to any more."""
        with self._lock:
            if index in self._tiles:  # another thread was faster
                return
            self._tiles[index] = tile
            self._held += tile.nbytes
            while self._held > self._capacity:
                self._held -= self._tiles.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget all tiles."""
        with self._lock:
            self._tiles.clear()
            self._held = 0

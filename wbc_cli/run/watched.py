"""A slide whose every read shows that the work on it gets on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wbc_cli.resources.heartbeat import Heartbeat
from wbc_cli.slides.pixel_size import PixelSize
from wbc_cli.slides.reader import RGBImage, SlideReader


class WatchedReader:
    """Another reader, whose reads beat; whatever else is asked of it, that one answers."""

    path: Path
    width: int
    height: int
    um_per_px: float | None
    pixel_um: PixelSize | None
    file_pixels: tuple[float, float]
    flags: tuple[str, ...]
    bounds: tuple[int, int]

    def __init__(self, reader: SlideReader, heartbeat: Heartbeat) -> None:
        self._reader, self._heartbeat = reader, heartbeat

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the other reader has
        return getattr(self._reader, name)

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`."""
        try:
            return self._reader.read(x, y, width, height, downsample)
        finally:
            self._heartbeat.beat()

    def close(self) -> None:
        """Let go of the file; the reader is of no more use."""
        self._reader.close()

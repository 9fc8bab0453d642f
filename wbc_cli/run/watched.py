"""A slide whose every read shows that the work on it gets on."""

from __future__ import annotations

from wbc_cli.resources.heartbeat import Heartbeat
from wbc_cli.slides.reader import ReaderWrapper, RGBImage, SlideReader


class WatchedReader(ReaderWrapper):
    """Another reader, whose reads beat."""

    def __init__(self, reader: SlideReader, heartbeat: Heartbeat) -> None:
        super().__init__(reader)
        self._heartbeat = heartbeat

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`."""
        try:
            return self.reader.read(x, y, width, height, downsample)
        finally:
            self._heartbeat.beat()

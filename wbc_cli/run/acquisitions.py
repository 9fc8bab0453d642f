"""Finding what is known of a picture's acquisition, and measuring it where nothing is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from wbc_cli.acquisition.file import Acquisition, add_acquisitions, read_acquisitions
from wbc_cli.acquisition.grouping import AcquisitionKey, Picture, drawn, key_of
from wbc_cli.acquisition.light import Lighting, background_of, measure_light, nuclei_of, pool_light
from wbc_cli.acquisition.scale import measure_scale, pool_scales, zooms_of
from wbc_cli.errors import SlideError
from wbc_cli.heartbeat import Heartbeat
from wbc_cli.inference.field_of_view import within_field
from wbc_cli.model.scale import ScaleNet
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.watched import WatchedReader
from wbc_cli.slides import open_slide

log = logging.getLogger(__name__)

LEAST_PICTURES = 5
"""Fewer of one kind are each taken by itself."""

_MOST_PICTURES = 24

Watch = Callable[[str], AbstractContextManager[Heartbeat]]


class AcquisitionFinder:
    """What the acquisitions of a run's pictures are; threads share it, and the first that needs one measures it.

    The pictures that are measured depend on nothing but the names of all that the run has, and what comes out is
    written down at once, for other processes as well.
    """

    def __init__(
        self,
        out: Path,
        pictures: Mapping[str, Sequence[Picture]],
        spoilt: Collection[str],
        net: ScaleNet,
        watch: Watch,
    ) -> None:
        """Find acquisitions.

        Args:
            out: the run folder.
            pictures: of the run, whichever shard they belong to, by their folders.
            spoilt: names of pictures that are not to be measured, as they have brought a worker down.
            net: the scale estimator.
            watch: entered with a picture's name while it is measured; gives what is to beat.
        """
        self._out, self._spoilt, self._net, self._watch = out, frozenset(spoilt), net, watch
        self._pictures = pictures
        self._known: dict[AcquisitionKey, Acquisition | None] = {}
        self._keys: dict[str, dict[AcquisitionKey, list[Picture]]] = {}
        self._locks: dict[str, Lock] = {}
        self._lock = Lock()

    def find(self, key: AcquisitionKey, heartbeat: Heartbeat) -> Acquisition | None:
        """What is known of an acquisition, measured first where nothing is; None where it has too few pictures.

        Args:
            key: of the acquisition.
            heartbeat: of the slide that it is wanted for, which meanwhile waits.

        Raises:
            MachineError: the run folder's file is damaged, or cannot be written.
        """
        with self._lock:
            lock = self._locks.setdefault(key.folder, Lock())
        with heartbeat.waiting(), lock:
            if key not in self._known:
                known = read_acquisitions(self._out).get(key.id)
                self._known[key] = known or self._measured(key)
            return self._known[key]

    def _measured(self, key: AcquisitionKey) -> Acquisition | None:
        scales: list[NDArray[np.float64]] = []
        lights: list[Lighting] = []
        of_one_kind = self._by_key(key.folder).get(key, [])
        if len(of_one_kind) < LEAST_PICTURES:
            return None
        zooms = np.empty(0)
        for picture in of_one_kind:
            if len(lights) == _MOST_PICTURES:
                break
            with self._watch(picture.name) as heartbeat:
                try:
                    with closing(open_slide(Path(picture.path), picture.field)) as opened:
                        reader = WatchedReader(opened, heartbeat)
                        light = measure_light(reader)
                        if key.um_per_px is None:
                            scales.append(measure_scale(self._net, within_field(reader)))
                            zooms = zooms_of(reader.width, reader.height)
                        lights.append(light)
                except SlideError:
                    continue  # which its own analysis tells
                except Exception:
                    log.exception("%s: not measured for its acquisition", picture.path)
        if len(lights) < LEAST_PICTURES:
            return None
        acquisition = Acquisition(
            key=key,
            pictures=len(lights),
            scales=pool_scales(np.stack(scales), zooms) if scales else (),
            light=pool_light(lights),
            background=background_of(lights),
            nuclei=nuclei_of(lights),
        )
        with locked(self._out / f"{LOCK}-acquisitions"):
            return add_acquisitions(self._out, [acquisition])[key.id]

    def _by_key(self, folder: str) -> dict[AcquisitionKey, list[Picture]]:
        """The pictures of a folder by their acquisitions, drawn; each file's head is read once."""
        if folder not in self._keys:
            found: dict[AcquisitionKey, list[Picture]] = {}
            for picture in drawn(self._pictures.get(folder, ())):
                with self._watch(picture.name):
                    key = None if picture.name in self._spoilt else key_of(Path(picture.path), picture.field)
                if key:
                    found.setdefault(key, []).append(picture)
            self._keys[folder] = found
        return self._keys[folder]

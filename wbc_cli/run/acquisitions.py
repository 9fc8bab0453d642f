"""Finding what is known of a picture's acquisition, and measuring it where nothing is."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import chain, count, islice
from operator import attrgetter
from pathlib import Path
from threading import Lock, RLock
from typing import NamedTuple, TypeVar

from wbc_cli.acquisition.file import Acquisition, PooledScale, add_acquisitions, digest_of, known_acquisitions
from wbc_cli.acquisition.grouping import (
    CROP,
    MAX_PICTURES,
    MIN_PICTURES,
    AcquisitionKey,
    Picture,
    drawn,
    key_of,
    parent_of,
)
from wbc_cli.acquisition.light import Lighting, background_of, even, measure_light, nuclei_of, pool_light
from wbc_cli.acquisition.scale import ScaleEstimates, measure_scale, pool_scales
from wbc_cli.cells import UNKNOWN, Cell
from wbc_cli.inference.field_of_view import within_field
from wbc_cli.inference.neutrophils import MAX_TYPED, Neutrophils, first_cells
from wbc_cli.inference.population import measure_population
from wbc_cli.resources.heartbeat import Heartbeat, Heartbeats
from wbc_cli.resources.parallel import in_order
from wbc_cli.run.isolation import isolated
from wbc_cli.run.job import Emit, Job
from wbc_cli.run.lazy_analyser import LazyAnalyser
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.shared_work import SharedWork
from wbc_cli.run.watched import WatchedReader
from wbc_cli.slides import open_slide

log = logging.getLogger(__name__)

_TYPED_AT_ONCE = 4  # pictures

T = TypeVar("T")


class _Measurement(NamedTuple):
    """What one picture tells.

    Attributes:
        light: its light and stain.
        scale: what the estimator says of its scale; None where the file states it.
    """

    light: Lighting
    scale: ScaleEstimates | None


class _Folder:
    """The pictures of one folder, whose heads are read as far as somebody wants to know.

    Attributes:
        finding: held by whoever looks for an acquisition here.
        measuring: held by whoever reads heads or measures light and scale here; waits but for another worker that does
            the same.
        optics: scale and light of the acquisitions, as far as they are measured; None where there are too few pictures.
        unread: pictures whose acquisition is not known yet, in the order in which they are drawn.
        read: those whose is, by it, in the same order.
    """

    def __init__(self, pictures: Iterable[Picture]) -> None:
        self.finding, self.measuring = Lock(), RLock()
        self.optics: dict[AcquisitionKey, Acquisition | None] = {}
        self.unread = iter(drawn(pictures, attrgetter("name")))
        self.read: dict[AcquisitionKey, list[Picture]] = defaultdict(list)


class AcquisitionFinder:
    """Finds the acquisitions of a run's pictures; threads share it, and the first that needs one measures it.

    The pictures that are measured depend on nothing but the names of all that the run has, and what comes out is
    written down at once, for other processes as well: those of the same run wait for it, and of two shards that measure
    the same the first one to end has its say. No more heads are read than it takes to find them.
    """

    def __init__(self, job: Job, network: LazyAnalyser, heartbeats: Heartbeats, emit: Emit) -> None:
        """Measure nothing yet.

        Args:
            job: says which pictures there are, and where what is found is kept.
            network: has the scale estimator.
            heartbeats: of what is worked on.
            emit: is told which picture is being measured.
        """
        self._out, self._shared, self._unmeasurable = Path(job.out), SharedWork(job, emit), job.unmeasurable
        self._job, self._typed_at_once = job, 1 if job.alone else _TYPED_AT_ONCE
        self._network, self._heartbeats, self._emit = network, heartbeats, emit
        self._known: dict[AcquisitionKey, Acquisition | None] = {}
        self._pictures, self._folders = job.pictures, dict[str, _Folder]()
        self._beside: dict[AcquisitionKey, Neutrophils | None] = {}
        self._lock, self._looking_beside, self._writing = Lock(), Lock(), Lock()

    def find(self, key: AcquisitionKey, heartbeat: Heartbeat) -> Acquisition | None:
        """Find what is known of an acquisition, measured first where nothing is; None where it has too few pictures.

        Args:
            key: of the acquisition.
            heartbeat: of the slide that it is wanted for, which meanwhile waits.

        Raises:
            SetupError: the run folder's file is damaged, or cannot be written.
        """
        if key in self._known:
            return self._known[key]
        with heartbeat.waiting(), self._folder(key.folder).finding:
            if key not in self._known:
                known = known_acquisitions(self._out, self._job.model).get(key.id)
                self._known[key] = known or self._shared.once(
                    key.id, lambda: self._measured(key), Acquisition.from_dict
                )
            return self._known[key]

    def _folder(self, name: str) -> _Folder:
        with self._lock:
            if name not in self._folders:
                self._folders[name] = _Folder(self._pictures.get(name, ()))
            return self._folders[name]

    def _measured(self, key: AcquisitionKey) -> Acquisition | None:
        acquisition = self._optics(key)
        if acquisition is None:
            return None
        network, population = self._network.get().stream.engine.network, UNKNOWN
        if network.compares or network.config.class_prior:
            cells = self._first_cells((picture, acquisition) for picture in self._of_one_kind(key))
            population = measure_population(cells, network, lambda: self._neutrophils_beside(key))
        # The first is for threads, the next for workers, as there are disks without locks, and the last for shards.
        with self._writing, self._shared.alone("acquisitions"), locked(self._out / f"{LOCK}-acquisitions"):
            return add_acquisitions(self._out, [replace(acquisition, **population._asdict())])[key.id]

    def _optics(self, key: AcquisitionKey) -> Acquisition | None:
        """Return an acquisition with its scale and light alone, measured first where nobody has."""
        folder = self._folder(key.folder)
        with folder.measuring:
            if key not in folder.optics:
                folder.optics[key] = self._shared.once(
                    f"optics-{key.id}", lambda: self._measured_optics(key), Acquisition.from_dict
                )
            return folder.optics[key]

    def _measured_optics(self, key: AcquisitionKey) -> Acquisition | None:
        if len(list(islice(self._of_one_kind(key), MIN_PICTURES))) < MIN_PICTURES:
            return None
        measured = (self._measure(picture, key.um_per_px is None) for picture in self._of_one_kind(key))
        found = list(islice(filter(None, measured), MAX_PICTURES))
        if len(found) < MIN_PICTURES:
            return None
        lights = [measurement.light for measurement in found]
        return Acquisition(
            key=key,
            pictures=len(lights),
            scales=_pooled_scales(found),
            light=None if key.size == CROP else pool_light(lights),
            background=background_of(lights),
            nuclei=nuclei_of(lights),
            neutrophils=None,
            class_prior=None,
            measured_with=digest_of(self._job.model),
        )

    def _measure(self, picture: Picture, with_scale: bool) -> _Measurement | None:
        """Measure a picture by itself."""

        def measure(reader: WatchedReader, _: Heartbeat) -> _Measurement:
            net = self._network.get().stream.engine.network.scale
            scale = measure_scale(net, within_field(reader)) if with_scale else None
            return _Measurement(measure_light(reader), scale)

        return self._look(picture, measure)

    def _look(self, picture: Picture, measure: Callable[[WatchedReader, Heartbeat], T]) -> T | None:
        """Measure an open picture; None where that fails, which is only logged, as its own analysis will tell it."""
        path, measured = Path(picture.path), None
        with (
            self._measuring(picture.name) as heartbeat,
            isolated(path, self._network) as outcome,
            closing(open_slide(path, picture.field)) as opened,
        ):
            measured = measure(WatchedReader(opened, heartbeat), heartbeat)
        if outcome.failure is not None:
            log.info("not measured for its acquisition: %s", outcome.failure)
        return measured

    def _first_cells(self, pictures: Iterable[tuple[Picture, Acquisition | None]]) -> list[Cell]:
        """Type the cells of pictures each by itself; a picture comes with its acquisition."""
        with ThreadPoolExecutor(self._typed_at_once) as pool:
            return first_cells(in_order(pool, self._typed, islice(pictures, MAX_TYPED), self._typed_at_once))

    def _neutrophils_beside(self, key: AcquisitionKey) -> Neutrophils | None:
        """Measure the neutrophils of all pictures of a camera that lie in the folders of one folder.

        Where every patient has a folder, or every type of cell, one alone may not tell enough of them.
        """
        if not self._network.get().stream.engine.network.compares:
            return None
        camera = key.camera_key
        with self._looking_beside:
            if camera not in self._beside:
                self._beside[camera] = self._shared.once(
                    f"beside-{camera.id}", lambda: self._measured_beside(camera), Neutrophils
                )
            return self._beside[camera]

    def _measured_beside(self, camera: AcquisitionKey) -> Neutrophils | None:
        network = self._network.get().stream.engine.network
        return measure_population(self._first_cells(self._of_one_camera(camera)), network).neutrophils

    def _of_one_camera(self, camera: AcquisitionKey) -> Iterator[tuple[Picture, Acquisition | None]]:
        """Yield the pictures of a camera in the folders of one folder as they are drawn, with their acquisitions."""
        folders = [pictures for name, pictures in self._pictures.items() if parent_of(name) == camera.folder]
        if len(folders) == 1:
            return  # nothing that is not known
        for picture in drawn(chain(*folders), attrgetter("name")):
            key = self._key_of(picture)
            if key and key.camera_key == camera:
                acquisition = self._optics(key)
                if picture.name not in self._unmeasurable:  # by now
                    yield picture, acquisition

    def _typed(self, of_acquisition: tuple[Picture, Acquisition | None]) -> tuple[Cell, ...]:
        """Analyse a picture by itself; without cells where that fails."""
        picture, acquisition = of_acquisition
        pooled = [shared.scale for shared in acquisition.scales] if acquisition else []

        def analyse(reader: WatchedReader, heartbeat: Heartbeat) -> tuple[Cell, ...]:
            analyser, lit = self._network.get(), even(reader, acquisition.light if acquisition else None)
            um_per_px = self._job.stated_scale(picture.um_per_px)
            return analyser.analyse(
                lit, picture.name, um_per_px, heartbeat=heartbeat, pooled=pooled, population=UNKNOWN
            ).cells

        return self._look(picture, analyse) or ()

    def _of_one_kind(self, key: AcquisitionKey) -> Iterator[Picture]:
        """Yield the pictures of an acquisition as they are drawn; of others heads are read only on the way to them."""
        folder = self._folder(key.folder)
        read = folder.read[key]
        for place in count():
            with folder.measuring:
                while place == len(read):
                    picture = next(folder.unread, None)
                    if picture is None:
                        return
                    self._read_head(picture, folder)
            if read[place].name not in self._unmeasurable:  # by now
                yield read[place]

    def _read_head(self, picture: Picture, folder: _Folder) -> None:
        key = self._key_of(picture)
        if key:
            folder.read[key].append(picture)

    def _key_of(self, picture: Picture) -> AcquisitionKey | None:
        if picture.name in self._unmeasurable:
            return None
        with self._measuring(picture.name):
            return key_of(Path(picture.path), picture.field)

    @contextmanager
    def _measuring(self, name: str) -> Iterator[Heartbeat]:
        self._emit({"event": "measuring", "slide": name})
        try:
            with self._heartbeats.working(name) as heartbeat:
                yield heartbeat
        finally:
            self._emit({"event": "measured", "slide": name})


def _pooled_scales(found: Sequence[_Measurement]) -> tuple[PooledScale, ...]:
    estimates = [measurement.scale for measurement in found if measurement.scale is not None]
    return pool_scales(estimates) if estimates else ()

"""Training windows: which image, where, how turned, and what is pasted in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wbc_cli.classes import OTHER_INDEX
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.training.data import IGNORE, UNKNOWN_TYPE, Target, TrainingImage
from wbc_cli.training.surroundings import blend, compressed, one_colour, other_background, overlay

# Of a set's and, within it, of a class's number of cells: rare ones come oftener than they are, large ones still most.
_SHARE_POWER = 0.5
_LOG_ZOOM_DEVIATION = 0.16  # deviation of the logarithm: estimated scales are off by as much
_PASTE_PROBABILITY = 0.35
_OTHER_BACKGROUND_PROBABILITY = 0.25
_OVERLAY_PROBABILITY = 0.3
_JPEG_PROBABILITY = 0.3
_PASTED_INSTANCE = 40  # above the numbers of an image's own cells
_NO_TYPE_RADIUS_UM = 3.0
_CELL_RADIUS_UM = 5.0
_MAX_CELL_RADIUS_UM = 7.5  # no part of the cell in the middle lies farther away


K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class TrainingWindow:
    """One training window.

    Attributes:
        rgb: uint8 [S, S, 3].
        code: uint8 [S / 2, S / 2], see data.Code.
        label: index of the class, UNKNOWN_TYPE or NOT_BLAST_TYPE.
        pool: uint8 [S / 2, S / 2], 1 where the type head may pool: the cell's mask, or where none is known a disc that
            holds the cell.
        masked: whether `pool` is the cell's own mask.
    """

    rgb: NDArray[np.uint8]
    code: NDArray[np.uint8]
    label: int
    pool: NDArray[np.uint8]
    masked: bool


class _Entry(NamedTuple):
    """A cell of an image, or an image without any."""

    image: TrainingImage
    target: Target | None


class WindowSampler:
    """Draws windows, every set and class in its share.

    Args:
        images: what to draw from.
        config: size and scale of the windows.
    """

    def __init__(self, images: Sequence[TrainingImage], config: ModelConfig) -> None:
        self.config = config
        groups: dict[str, dict[int, list[_Entry]]] = defaultdict(lambda: defaultdict(list))
        for image in images:
            for target in image.targets or (None,):
                groups[image.sample.dataset][target.label if target else UNKNOWN_TYPE].append(_Entry(image, target))
        self.sets = {
            name: [(groups[name][label], share) for label, share in shares(groups[name]).items()]
            for name in sorted(groups)
        }
        self.set_shares = shares({name: [e for group in groups[name].values() for e in group] for name in self.sets})
        self.empty = [image for image in images if not image.targets]
        self.pasteable = {
            name: [i for i in images if i.sample.dataset == name and any(t.instance for t in i.targets)]
            for name in self.sets
        }

    def draw(self, rng: Generator) -> TrainingWindow:
        """Draw one window, augmented in position and scale, with a second cell pasted in now and then."""
        name = str(rng.choice(list(self.set_shares), p=list(self.set_shares.values())))
        image, target = self._entry(name, rng)
        if target is None or (image.sample.boxes and rng.random() < 0.12):
            target = _anywhere(image, rng)
        jitter_um = rng.normal(0, 1.6, 2).clip(-5, 5)
        rgb, code = self._cut(image, target, jitter_um, rng)
        if not image.targets and rng.random() < _OVERLAY_PROBABILITY:
            rgb = overlay(rgb, self._empty(rng))
        label, instance = target.label, target.instance
        if rng.random() < _PASTE_PROBABILITY:
            pasted = self._paste(rgb, code, name, instance, image, rng)
            if pasted is not None and instance == 0 and not image.targets:
                label, instance = pasted, _PASTED_INSTANCE
        if instance and rng.random() < _OTHER_BACKGROUND_PROBABILITY:
            rgb, code = self._elsewhere(rgb, code, code // 4 == instance, rng)
        if rng.random() < _JPEG_PROBABILITY:
            rgb = compressed(rgb, rng)
        return self._window(rgb, code, label, instance, jitter_um)

    def _empty(self, rng: Generator) -> NDArray[np.uint8]:
        """Draw a window of a field without white cells."""
        field = self.empty[rng.integers(len(self.empty))]
        return self._cut(field, _anywhere(field, rng), np.zeros(2), rng)[0]

    def _elsewhere(
        self, rgb: NDArray[np.uint8], code: NDArray[np.uint8], cell: NDArray[np.bool_], rng: Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Put a known cell before the background of an empty field, or one colour."""
        backdrop = self._empty(rng) if self.empty and rng.random() < 0.5 else one_colour(rgb, rng)
        known = np.where(cell, code, 0).astype(np.uint8)
        return other_background(rgb, cell, backdrop), known

    def _entry(self, name: str, rng: Generator) -> _Entry:
        groups = self.sets[name]
        entries, _ = groups[rng.choice(len(groups), p=[share for _, share in groups])]
        return entries[rng.integers(len(entries))]

    def _cut(
        self, image: TrainingImage, target: Target, shift_um: NDArray[np.float64], rng: Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut pixels and code of a window whose middle lies `shift_um` (in the window's axes) from the target."""
        turn = np.deg2rad(rng.integers(4) * 90 + rng.normal(0, 12))
        zoom = np.exp(_LOG_ZOOM_DEVIATION * np.clip(rng.normal(), -2.2, 2.2)) * image.um_per_px / self.config.um_per_px
        stretch = np.exp(rng.normal(0, 0.03))
        mirror = rng.choice((-1.0, 1.0))
        linear = (
            zoom
            * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            @ np.diag([mirror * stretch, 1 / stretch])
        )
        middle = self.config.window_px / 2 - 0.5 - shift_um / self.config.um_per_px
        return warp(image, linear, np.array([target.x - 0.5, target.y - 0.5]), middle, self.config.window_px)

    def _paste(
        self,
        rgb: NDArray[np.uint8],
        code: NDArray[np.uint8],
        name: str,
        instance: int,
        image: TrainingImage,
        rng: Generator,
    ) -> int | None:
        """Put another image's cell next to the target (touching or near), or where there is none; returns its label."""
        donors = self.pasteable[name] if rng.random() < 0.6 else []
        if not donors:
            donors = self.pasteable[str(rng.choice(list(self.sets)))]
        if not donors:
            return None
        donor = donors[rng.integers(len(donors))]
        target = next(t for t in donor.targets if t.instance)
        scale = self.config.um_per_px
        shift_um = rng.normal(0, 1.5, 2)
        if image.targets:
            radius = (
                np.sqrt((code // 4 == instance).sum() / np.pi) * MAP_STRIDE * scale if instance else _CELL_RADIUS_UM
            )
            direction = rng.uniform(0, 2 * np.pi)
            distance = radius + _CELL_RADIUS_UM + rng.uniform(-1.0, 4.0)
            shift_um = -distance * np.array([np.cos(direction), np.sin(direction)])
        cell_rgb, cell_code = self._cut(donor, target, shift_um, rng)
        cell = cell_code // 4 == target.instance
        if (
            target.instance == 0
            or not cell.any()
            or ((cell & (code // 4 == instance)).sum() > 0.25 * cell.sum() and instance)
        ):
            return None
        rgb[:] = blend(rgb, cell_rgb, cell)
        code[cell] = _PASTED_INSTANCE * 4 + cell_code[cell] % 4
        return target.label

    def _window(
        self, rgb: NDArray[np.uint8], code: NDArray[np.uint8], label: int, instance: int, shift_um: NDArray[np.float64]
    ) -> TrainingWindow:
        masked = bool(instance) and bool(((code // 4 == instance) & (code != IGNORE)).any())
        if masked:
            return TrainingWindow(rgb, code, label, ((code // 4 == instance) & (code != IGNORE)).astype(np.uint8), True)
        if label == UNKNOWN_TYPE and not (code != 0).any():
            label = OTHER_INDEX  # which a window without any cell shows
        radius_um = _NO_TYPE_RADIUS_UM if label == OTHER_INDEX else _MAX_CELL_RADIUS_UM
        unit = MAP_STRIDE * self.config.um_per_px
        centre = (np.array(code.shape) / 2 - shift_um[::-1] / unit).round().astype(int)
        pool = np.zeros(code.shape, np.uint8)
        cv2.circle(pool, (int(centre[1]), int(centre[0])), round(radius_um / unit), 1, -1)
        if not pool.any():
            pool[:] = 1
        return TrainingWindow(rgb, code, label, pool, False)


def shares(groups: Mapping[K, Sized], power: float = _SHARE_POWER) -> dict[K, float]:
    """Compute how often each group is drawn from: by a power of its size, summing to 1."""
    roots = {name: len(groups[name]) ** power for name in sorted(groups)}  # type: ignore[type-var]
    return {name: root / sum(roots.values()) for name, root in roots.items()}


def warp(
    image: TrainingImage,
    linear: NDArray[np.float64],
    source: NDArray[np.float64],
    middle: NDArray[np.float64],
    side: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Map an image into a window.

    Args:
        image: the image.
        linear: [2, 2], from stored pixels to window pixels.
        source: x, y of the stored pixel (index, not edge) that falls on `middle`.
        middle: x, y in window pixels (index).
        side: of the window.

    Returns:
        uint8 [side, side, 3], and the code at MAP_STRIDE, whose pixels are exact two by two blocks of the window's.
    """
    matrix = np.column_stack([linear, middle - linear @ source])
    return warp_pair(image.rgb, image.code, matrix, side, MAP_STRIDE, tuple(int(c) for c in image.padding))


def warp_pair(
    rgb: NDArray[np.uint8],
    plane: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    side: int,
    stride: int,
    fill: tuple[int, ...],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Map pixels into a square, and what is known of them into the map of a network's stride over that square.

    Args:
        rgb: uint8 [h, w, 3].
        plane: uint8 [h, w], labels; 0 outside.
        matrix: [2, 3], from the image's pixels to the square's (indices, not edges).
        side: of the square.
        stride: pixels of the square to one of the map; the map's pixels are exact blocks of the square's.
        fill: the colour outside the image.

    Returns:
        uint8 [side, side, 3] and uint8 [side / stride, side / stride].
    """
    pixels = cv2.warpAffine(
        rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )
    coarse = matrix / stride
    coarse[:, 2] -= 0.5 * (stride - 1) / stride
    size = (side // stride, side // stride)
    labels = cv2.warpAffine(plane, coarse, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return pixels.astype(np.uint8), labels.astype(np.uint8)


def _anywhere(image: TrainingImage, rng: Generator) -> Target:
    height, width = image.rgb.shape[:2]
    return Target(float(rng.uniform(0, width)), float(rng.uniform(0, height)), 0, UNKNOWN_TYPE)

"""The trained network on one cell of every image, which is put in the middle: for validation and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from wbc_cli.classes import BLAST_INDEX, OTHER
from wbc_cli.inference.engine import choose_precision
from wbc_cli.inference.instances import find_cells
from wbc_cli.inference.test_time_augmentation import augment_unclear
from wbc_cli.model.network import SGCLDFF, NetworkOutput
from wbc_cli.model.shape_head import cell_maps
from wbc_cli.training.batches import to_tensor
from wbc_cli.training.data import IGNORE, NOT_BLAST_TYPE, UNKNOWN_TYPE, TrainingImage
from wbc_cli.training.sampling import warp

_BATCH = 32
_TYPICAL_SHARE = 0.995


@dataclass(frozen=True, eq=False)
class CentredView:
    """What the network predicts around the first cell of one image, or around its middle where no cell is known.

    Attributes:
        image: the image.
        rgb: uint8 [S, S, 3], the window.
        probabilities: float32 [3, S / 2, S / 2], of background, cytoplasm, nucleus.
        cells: uint8 [S / 2, S / 2], separated cells.
        cell: number of the one nearest the middle; 0 where none was found.
        pooled: float32 [width], the type features of that cell, or of the window's middle.
        logits: float32 [classes], of the same.
        parts: float32 [width], what the morphology head describes it from.
        measures: float32 [MEASURED], see `SGCLDFF.measure`.
        truth: uint8 [S / 2, S / 2], the image's code in the window.
    """

    image: TrainingImage
    rgb: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    cells: NDArray[np.uint8]
    cell: int
    pooled: NDArray[np.float32]
    logits: NDArray[np.float32]
    parts: NDArray[np.float32]
    measures: NDArray[np.float32]
    truth: NDArray[np.uint8]


def centred_views(
    network: SGCLDFF, images: Sequence[TrainingImage], device: torch.device, test_time_augmentation: bool = False
) -> Iterator[CentredView]:
    """Run the network on the first cell of each image, or on its middle, upright, at the config's scale.

    Args:
        network: put into evaluation mode.
        images: the images, in whose order the views come.
        device: where the network is.
        test_time_augmentation: augment the windows of unclear cells, as in use.
    """
    config = network.config
    network.eval()
    dtype = choose_precision("auto", device)

    def precision() -> torch.autocast:
        return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

    def type_features(windows: Tensor) -> Tensor:
        with torch.no_grad(), precision():
            return network.type_features(windows).float()

    for start in range(0, len(images), _BATCH):
        chunk = images[start : start + _BATCH]
        cuts = [_centre(image, config.um_per_px, config.window_px) for image in chunk]
        windows = to_tensor(np.stack([c[0] for c in cuts]), device)
        with torch.no_grad(), precision():
            output: NetworkOutput = network(windows)
        output = output._replace(features=output.features.float(), texture=output.texture.float())
        features = output.features
        probabilities, cells = find_cells(output.maps, config.um_per_px)
        central = [_nearest_middle(labels) for labels in cells]
        masks = np.stack([labels == c if c else _disc(labels.shape) for labels, c in zip(cells, central, strict=True)])
        maps = _maps(windows, output, masks)
        pooled, logits, measures = _typed(network, output.features, masks, maps)
        if test_time_augmentation:
            every = torch.arange(len(windows), device=device)
            first = torch.from_numpy(logits).to(device)
            features = augment_unclear(type_features, windows, features, first, every).features
            pooled, logits, measures = _typed(network, features, masks, maps)
        parts = _parts(network, output._replace(features=features), masks)
        for i, image in enumerate(chunk):
            yield CentredView(
                image,
                cuts[i][0],
                probabilities[i],
                cells[i],
                central[i],
                pooled[i],
                logits[i],
                parts[i],
                measures[i],
                cuts[i][1],
            )


@dataclass(frozen=True)
class Validation:
    """The figures on the centred cells: share of right types, mean IoU of drawn masks, mean IoU of their nuclei."""

    accuracy: float
    cell_iou: float
    nucleus_iou: float


def validate(views: Sequence[CentredView]) -> Validation:
    """Score views against the labels and drawn masks of their images."""
    right = [_is_right(v) for v in views if v.image.targets and v.image.targets[0].label != UNKNOWN_TYPE]
    masked = [v for v in views if v.image.masked]
    ious = [(_iou(v, 1), _iou(v, 2)) for v in masked] or [(np.nan, np.nan)]
    cell, nucleus = np.mean(ious, axis=0)
    return Validation(float(np.mean(right)), float(cell), float(nucleus))


def fit_temperature(views: Sequence[CentredView]) -> float:
    """Find the temperature that minimises the negative log-likelihood of the labels (Guo et al., ICML 2017)."""
    chosen = [v for v in views if v.image.targets and v.image.targets[0].label >= 0 and v.cell]
    if not chosen:
        return 1.0
    logits = torch.tensor(np.stack([v.logits for v in chosen]))
    labels = torch.tensor([v.image.targets[0].label for v in chosen])
    found = minimize_scalar(lambda t: float(F.cross_entropy(logits / t, labels)), bounds=(0.25, 4.0), method="bounded")
    return float(found.x)


def fit_typicality(network: SGCLDFF, views: Sequence[CentredView], held_out: Sequence[CentredView]) -> None:
    """Fit the network's typicality to the features of training cells.

    Args:
        network: its typicality is fitted.
        views: of training images.
        held_out: of validation images; a cell farther off than nearly all of theirs is atypical.
    """
    known = [v for v in views if v.cell and v.image.targets and v.image.targets[0].label >= 0]
    typed = [v for v in held_out if v.cell and v.image.targets and v.image.sample.labels != (OTHER,)]
    if known and typed:
        device = network.typicality.centres.device
        network.typicality.fit(
            torch.tensor(np.stack([v.pooled for v in known]), device=device),
            torch.tensor([v.image.targets[0].label for v in known], device=device),
            torch.tensor(np.stack([v.pooled for v in typed]), device=device),
            _TYPICAL_SHARE,
        )


def _centre(image: TrainingImage, um_per_px: float, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    zoom = image.um_per_px / um_per_px
    height, width = image.rgb.shape[:2]
    x, y = (image.targets[0].x, image.targets[0].y) if image.targets else (width / 2, height / 2)
    source = np.array([x - 0.5, y - 0.5])
    return warp(image, np.eye(2) * zoom, source, np.full(2, side / 2 - 0.5), side)


def _nearest_middle(labels: NDArray[np.uint8]) -> int:
    """Find the cell nearest the middle of the window, if it lies within a fifth of the window's side of it; else 0."""
    rows, columns = np.nonzero(labels)
    if not len(rows):
        return 0
    side = labels.shape[0]
    distance = (rows - side / 2 + 0.5) ** 2 + (columns - side / 2 + 0.5) ** 2
    nearest = int(np.argmin(distance))
    return int(labels[rows[nearest], columns[nearest]]) if distance[nearest] < (side / 5) ** 2 else 0


def _disc(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    disc: NDArray[np.bool_] = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < (shape[0] / 10) ** 2
    return disc


def _maps(windows: Tensor, output: NetworkOutput, masks: NDArray[np.bool_]) -> Tensor:
    return cell_maps(windows, output.maps.segments, torch.from_numpy(masks).float().to(windows.device))


@torch.no_grad()
def _typed(
    network: SGCLDFF, features: Tensor, masks: NDArray[np.bool_], maps: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the pooled features, logits and measures of cells."""
    pooled_masks = F.adaptive_avg_pool2d(torch.from_numpy(masks).float().to(features.device), features.shape[-1])
    pooled = network.types.pool(features, pooled_masks)
    typed = network.type_cells(pooled, network.shape.log_probabilities(maps))
    measures = network.measure(maps, pooled)
    return pooled.cpu().numpy(), typed.logits.cpu().numpy(), measures.cpu().numpy()


def _parts(network: SGCLDFF, output: NetworkOutput, masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    cells = torch.from_numpy(masks).float().to(output.features.device)[:, None]
    pooled = network.morphology.pool(output.features, output.texture, output.maps.segments, cells)
    parts: NDArray[np.float32] = pooled[:, 0].cpu().numpy()
    return parts


def _is_right(view: CentredView) -> bool:
    label = view.image.targets[0].label
    predicted = int(view.logits.argmax())
    if view.image.sample.labels == (OTHER,):
        return not view.cell or predicted == label
    if label == NOT_BLAST_TYPE:
        return bool(view.cell) and predicted != BLAST_INDEX
    return bool(view.cell) and predicted == label


def _iou(view: CentredView, least: int) -> float:
    truth = (view.truth // 4 == 1) & (view.truth % 4 >= least) & (view.truth != IGNORE)
    kinds = np.where(view.probabilities[2] > view.probabilities[1], 2, 1)
    predicted = (view.cells == view.cell) & (kinds >= least) if view.cell else np.zeros_like(truth)
    return float((truth & predicted).sum() / max(1, (truth | predicted).sum()))

"""Whether a Grad-CAM tells what the network's prediction rests on, and depends on what the network learned."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import spearmanr
from torch import Tensor

from wbc_cli.cells import Cell, Population, SlideResult
from wbc_cli.classes import OTHER
from wbc_cli.evaluation.regions import bell, on_window
from wbc_cli.evaluation.truth import white_boxes
from wbc_cli.inference.coarse import slide_background
from wbc_cli.inference.engine import Engine
from wbc_cli.inference.population import row_of
from wbc_cli.inference.windows import Window, read_window
from wbc_cli.manifest import Sample
from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.shape_head import cell_maps
from wbc_cli.slides.reader import SlideReader

Map = NDArray[np.float32]

_STEPS = 16  # the pixels go in sixteenths
_BLUR_UM = 8.0  # sigma of about a cell's radius: less leaves a spot of the cell's colour, which alone tells some types
_DRAWS = 3  # new weights: how like a map is to that of one network made by chance is itself a matter of chance
_SEED = 0


@dataclass(frozen=True)
class OrderScore:
    """The areas under the curves of one order of pixels.

    Attributes:
        deletion: mean probability of the reported class while the first pixels are blurred away; low is faithful.
        insertion: the same while they are put back into the blurred window; high is faithful.
    """

    deletion: float
    insertion: float


@dataclass(frozen=True)
class FaithfulnessScore:
    """The checks of one cell's Grad-CAM.

    Attributes:
        cam: pixels in the order of the map.
        random: in that of a random map of the same resolution.
        centre: from the window's middle outwards.
        new_head: Spearman's correlation of the map with those of networks with a new type head, one each, -1 to 1.
        new_network: with new fusion and backbone, too.
        gaussian: with a Gaussian around the window's middle.
    """

    cam: OrderScore
    random: OrderScore
    centre: OrderScore
    new_head: tuple[float, ...]
    new_network: tuple[float, ...]
    gaussian: float


def choose(samples: Sequence[Sample], count: int) -> frozenset[int]:
    """Choose images whose cell is put to the checks, by a fixed seed and spread evenly over the data sets.

    Args:
        samples: the images.
        count: how many; fewer where not as many show a labelled cell.

    Returns:
        Indices of the samples.
    """
    by_set: dict[str, list[int]] = {}
    for index in np.random.default_rng(_SEED).permutation(len(samples)).tolist():
        sample = samples[index]
        if any(label != OTHER for label in sample.labels) or white_boxes(sample):
            by_set.setdefault(sample.dataset, []).append(index)
    turns = sorted((turn, name, index) for name, indices in by_set.items() for turn, index in enumerate(indices))
    return frozenset(index for _, _, index in turns[:count])


class Probe:
    """Puts cells to the checks with the network that typed them, upright and in fp32.

    The map of a cell whose window was augmented is an average over views; its windows are scored, and the maps of new
    weights made, as the window lies.

    Deletion and insertion are those of Petsiuk et al. (RISE, BMVC 2018), with a blurred window in place of black, which
    no stain is; the weights are made new from the output backwards as by Adebayo et al. (Sanity checks for saliency
    maps, NeurIPS 2018).
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def score(self, reader: SlideReader, result: SlideResult, cell: Cell) -> FaithfulnessScore:
        """Check the explanation of one cell.

        Raises:
            SlideError: the cell's window cannot be decoded.
        """
        config, why = self.engine.config, cell.explanation
        background = slide_background(reader, result.scale.um_per_px)
        window = read_window(reader, Window(round(why.x), round(why.y), round(why.side)), config.window_px, background)
        side = config.window_px // MAP_STRIDE
        mask = on_window(cell.mask > 0, cell.box[0], cell.box[1], why, (side, side))
        kind = int(cell.probabilities.argmax())
        rng = np.random.default_rng(zlib.crc32(f"{reader.path.name} {cell.id}".encode()))
        random = rng.random(why.cam.shape, dtype=np.float32)
        centre = np.outer(bell(why.cam.shape[0]), bell(why.cam.shape[1])).astype(np.float32)
        population = result.population
        cam, by_chance, by_place = (
            self._delete_and_insert(window, mask, kind, population, m) for m in (why.cam, random, centre)
        )
        new_maps = [self._new_maps(window, kind, int(seed)) for seed in rng.integers(2**31, size=_DRAWS)]
        return FaithfulnessScore(
            cam,
            by_chance,
            by_place,
            tuple(correlation(why.cam, new_head) for new_head, _ in new_maps),
            tuple(correlation(why.cam, new_network) for _, new_network in new_maps),
            correlation(why.cam, centre),
        )

    def _delete_and_insert(
        self, window: NDArray[np.uint8], mask: NDArray[np.bool_], kind: int, population: Population, order: Map
    ) -> OrderScore:
        blurred = cv2.GaussianBlur(window, (0, 0), _BLUR_UM / self.engine.config.um_per_px)
        first = first_pixels(order, window.shape[0])[..., None]
        deleted, inserted = np.where(first, blurred, window), np.where(first, window, blurred)
        return OrderScore(
            *(
                float(trapezoid(self._probabilities(windows, mask, kind, population), dx=1 / _STEPS))
                for windows in (deleted, inserted)
            )
        )

    @torch.inference_mode()
    def _probabilities(
        self, windows: NDArray[np.uint8], mask: NDArray[np.bool_], kind: int, population: Population
    ) -> NDArray[np.float32]:
        """Compute the calibrated probability of a class in windows, uint8 [N, S, S, 3], pooled over one mask."""
        network, device = self.engine.network, self.engine.device
        weights = torch.from_numpy(mask).to(device)[None].float()
        found = []
        for batch in torch.split(_tensor(windows, device), self.engine.batch_size):
            output = network(batch)
            pooled_mask = F.adaptive_avg_pool2d(weights, output.features.shape[-1]).expand(len(batch), -1, -1)
            maps = cell_maps(batch, output.maps.segments, weights.expand(len(batch), -1, -1))
            pooled = network.types.pool(output.features, pooled_mask)
            alone = network.type_cells(pooled, network.shape.log_probabilities(maps))
            known = torch.from_numpy(row_of(population)).to(device).expand(len(batch), -1)
            logits = network.among(alone, network.measure(maps, pooled), known).logits
            found.append((logits / self.engine.config.temperature).softmax(dim=1)[:, kind])
        return torch.cat(found).cpu().numpy()

    @torch.inference_mode()
    def _new_maps(self, window: NDArray[np.uint8], kind: int, seed: int) -> tuple[Map, Map]:
        """Compute the Grad-CAM of a class with a new type head, and with new fusion and backbone, too."""
        trained, device = self.engine.network, self.engine.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            new = SGCLDFF(self.engine.config).eval().to(device)
        new.prior.load_state_dict(trained.prior.state_dict())  # it is an input beside the pixels, and explains nothing
        pixels, classes = _tensor(window[None], device), torch.tensor([kind], device=device)
        new_network = new.types.cam(new(pixels).features, classes)
        new.backbone, new.fusion = trained.backbone, trained.fusion
        new_head = new.types.cam(new(pixels).features, classes)
        return new_head[0].cpu().numpy(), new_network[0].cpu().numpy()


def first_pixels(order: Map, size: int) -> NDArray[np.bool_]:
    """Choose the pixels of a window that go first in the order of a map, in growing shares.

    Args:
        order: [h, w], enlarged to the window; equal values (what a Grad-CAM cuts off at 0) go in a random order.
        size: side of the window.

    Returns:
        [_STEPS + 1, size, size]: none, a sixteenth, up to all of them.
    """
    enlarged = cv2.resize(order, (size, size), interpolation=cv2.INTER_LINEAR).ravel()
    ties = np.random.default_rng(_SEED).permutation(enlarged.size)
    rank = np.empty(enlarged.size, np.intp)
    rank[np.lexsort((ties, -enlarged))] = np.arange(enlarged.size)
    shares = np.arange(_STEPS + 1) / _STEPS
    first = rank < (shares * enlarged.size).round()[:, None]
    return np.asarray(first.reshape(-1, size, size))


def correlation(first: Map, second: Map) -> float:
    """Compute Spearman's rank correlation of two maps of one shape; it is 0 where one is flat, which tells nothing."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def _tensor(windows: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(windows).to(device).permute(0, 3, 1, 2)

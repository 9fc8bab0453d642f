"""The network on batches of windows: device, precision, batch size."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from wbc_cli.errors import SetupError
from wbc_cli.inference.coarse_strips import MARGIN_PX
from wbc_cli.inference.device import download, is_out_of_memory, upload
from wbc_cli.inference.instances import find_cells
from wbc_cli.inference.neutral_density import evenness
from wbc_cli.inference.population import KNOWN
from wbc_cli.inference.test_time_augmentation import AugmentedFeatures, augment_unclear
from wbc_cli.inference.window_cells import WindowCell, WindowPrediction
from wbc_cli.model.folded import put_in_precision
from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.model.network import SGCLDFF, NetworkOutput, TypedCells
from wbc_cli.model.saliency import STRIDE, folded
from wbc_cli.model.shape_head import cell_maps
from wbc_cli.resources.cores import available_cores

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NATIVE_BF16, _FAST_FP16 = (8, 0), (7, 0)  # least compute capability; below the second fp16 may be slower than fp32
_MIN_SPLIT_ROWS = 4 * MARGIN_PX  # of a coarse picture that is halved: of less, the margins would be the most


def choose_device(name: str) -> torch.device:
    """Choose the device that `--device auto|cpu|cuda[:N]` names, a GPU with its number.

    Raises:
        SetupError: CUDA was asked for and is not to be had.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        raise SetupError(f"--device {name}: no such CUDA device here ({count} found); use --device cpu")
    return torch.device("cuda", number)


def choose_precision(name: Precision, device: torch.device) -> torch.dtype:
    """Choose the precision that `--precision` names; auto is the fastest that the device computes natively.

    Decided by what the processor can do and not by a timing, so that two runs on one machine never differ.
    """
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        # Not torch.cuda.is_bf16_supported, which asks the current device, and is content with emulation.
        capability = torch.cuda.get_device_capability(device)
        if capability >= _NATIVE_BF16:
            return torch.bfloat16
        return torch.float16 if capability >= _FAST_FP16 else torch.float32
    # Measured: with AMX tiles 1.4 times as fast as fp32, with AVX-512's bf16 1.8 times; emulated it is slower.
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


class Engine:
    """Runs windows through the network; threads may share it.

    Attributes:
        lanes: how many threads make the most of the device. On the CPU one a core, each computing by itself: faster
            than sharing every layer among the cores, and but for rounding (1e-6) a window's output does not depend on
            which others are in its batch. On a GPU one lane prepares and reads out while the other computes.
        batch_size: windows a pass; halved for good when the device's memory does not hold them.

    Args:
        network: in evaluation mode; moved to the device.
        device: where to compute.
        dtype: precision of the matrix work.
        batch_size: windows a pass; None chooses by device.
        cores: to compute on where the device is the CPU; None for all that there are.
    """

    def __init__(
        self,
        network: SGCLDFF,
        device: torch.device,
        dtype: torch.dtype,
        batch_size: int | None = None,
        cores: int | None = None,
    ) -> None:
        self.network = network.to(device)
        self._prior = folded(self.network.prior)
        put_in_precision(self._prior, dtype)
        self._fast = self.network.for_inference(dtype)
        self.config = network.config
        self.device, self.dtype = device, dtype
        self._own = threading.local()
        # On the CPU twice as many are no faster, and large slides take a quarter more memory.
        self.batch_size = batch_size or (64 if device.type == "cuda" else 8)
        self.lanes = 2 if device.type == "cuda" else cores or available_cores()
        if device.type == "cpu":
            torch.set_num_threads(1)
        else:
            torch.backends.cudnn.allow_tf32 = False  # what is left in fp32 is that, not its ten-bit stand-in
            torch.cuda.synchronize(device)  # the lanes' streams do not wait for the weights

    @contextmanager
    def lane(self) -> Iterator[None]:
        """Compute on the engine's device; on a GPU in a stream of the thread's own.

        So a lane waits for its own results only, and its copies pass by what another computes.
        """
        if self.device.type == "cpu":
            yield
            return
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._own.stream):
            yield

    def predict(
        self, windows: NDArray[np.uint8], populations: NDArray[np.float32] | None = None
    ) -> list[WindowPrediction]:
        """Predict the cells of windows, a batch at a time.

        Args:
            windows: uint8 [N, S, S, 3], RGB of the config's size and scale.
            populations: float32 [N, KNOWN], what is known of the cells of the sample that each window is from, see
                `population.row_of`; None where nothing is known.

        Returns:
            The predictions in the order of the windows.

        Raises:
            SetupError: the device's memory does not hold a single window.
        """
        if populations is None:
            populations = np.full((len(windows), KNOWN), np.nan, np.float32)
        predictions: list[WindowPrediction] = []
        while len(predictions) < len(windows):
            size = self.batch_size
            try:
                part = slice(len(predictions), len(predictions) + size)
                with self.lane():
                    predictions += self._predict(windows[part], populations[part])
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise SetupError(
                        f"{self.device}: its memory does not hold a single window; free some, or use --device cpu"
                    ) from error
            # Not above: until the exception is gone its traceback holds what the batch took.
            self.batch_size = min(self.batch_size, size // 2)
            torch.cuda.empty_cache()
            log.warning("%s: out of memory, going on with %d windows a pass", self.device, self.batch_size)
        return predictions

    def _predict(self, windows: NDArray[np.uint8], populations: NDArray[np.float32]) -> list[WindowPrediction]:
        with torch.inference_mode():
            pixels = upload(windows, self.device).permute(0, 3, 1, 2)
            output = self.forward(pixels)
            probabilities, labels = find_cells(output.maps, self.config.um_per_px)
            cells = self._cells(pixels, output, labels, populations)
            (saliency,) = download(F.avg_pool2d(output.saliency, 4 * MAP_STRIDE)[:, 0].float())
        return [WindowPrediction(*parts) for parts in zip(probabilities, labels, cells, saliency, strict=True)]

    def saliency(self, density: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the prior on coarse pictures, halved where the device's memory does not hold them.

        Args:
            density: float32 [N, H, W, INPUTS], from `coarse.prior_pixels`.

        Returns:
            float32 [N, ceil(H / 2), ceil(W / 2)], 0 to 1.

        Raises:
            SetupError: the device's memory does not hold a small picture.
        """
        count, rows = density.shape[:2]
        try:
            with self.lane():
                return self._saliency(density)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if count == 1 and rows < _MIN_SPLIT_ROWS:
                raise SetupError(
                    f"{self.device}: its memory does not hold a coarse picture; free some, or use --device cpu"
                ) from error
        torch.cuda.empty_cache()  # when the exception is gone, as above
        log.info("%s: out of memory, going on with half a coarse picture", self.device)
        if count > 1:
            return np.concatenate([self.saliency(density[: count // 2]), self.saliency(density[count // 2 :])])
        middle = rows // 2 // STRIDE * STRIDE
        upper, lower = self.saliency(density[:, : middle + MARGIN_PX]), self.saliency(density[:, middle - MARGIN_PX :])
        return np.concatenate([upper[:, : middle // STRIDE], lower[:, MARGIN_PX // STRIDE :]], axis=1)

    @torch.inference_mode()
    def _saliency(self, density: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._precision():
            logits = self._prior(upload(density, self.device).permute(0, 3, 1, 2))
        saliency: NDArray[np.float32] = download(torch.sigmoid(logits.float())[:, 0])[0]
        return saliency

    def forward(self, pixels: torch.Tensor) -> NetworkOutput:
        """Run the bare network on windows, uint8 or float [N, 3, S, S] on the device, in the engine's precision."""
        with self._precision():
            output: NetworkOutput = self._fast(pixels)
        return output._replace(features=output.features.float(), texture=output.texture.float())

    def _type_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Extract type features, a batch at a time: there are up to twice as many views as windows."""
        with self._precision():
            return torch.cat([self._fast.type_features(part).float() for part in torch.split(pixels, self.batch_size)])

    def _precision(self) -> torch.autocast:
        # Without its cache, which all threads share: one lane's stream would not wait for what another's is making.
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False)

    def _cells(
        self,
        pixels: torch.Tensor,
        output: NetworkOutput,
        labels: list[NDArray[np.uint8]],
        populations: NDArray[np.float32],
    ) -> list[tuple[WindowCell, ...]]:
        """Type and explain every cell of a batch of windows in one go."""
        owners = [(n, k) for n, window in enumerate(labels) for k in range(int(window.max()))]
        found: list[list[WindowCell]] = [[] for _ in labels]
        if owners:
            cells = np.array(owners)
            columns = self._columns(pixels, output, np.stack(labels), cells, populations)
            for (window, cell), parts in zip(owners, zip(*columns, strict=True), strict=True):
                found[window].append(WindowCell(cell + 1, *parts))
        return [tuple(cells) for cells in found]

    def _columns(
        self,
        pixels: torch.Tensor,
        output: NetworkOutput,
        labels: NDArray[np.uint8],
        owners: NDArray[np.int64],
        populations: NDArray[np.float32],
    ) -> tuple[Iterable[Any], ...]:
        """Compute what `WindowCell` says of the cells [window, number from 0] beside their label, a column each.

        The device is waited for twice: to know which cells are unclear, and at the end.
        """
        types, side = self.network.types, output.features.shape[-1]
        n, k = upload(owners.T.copy(), self.device)
        numbers = torch.arange(1, int(owners[:, 1].max()) + 2, dtype=torch.uint8, device=self.device)[:, None, None]
        # Windows with fewer cells have empty masks, too: that costs less than a copy of the features for each cell.
        windows = (upload(labels, self.device)[:, None] == numbers).float()
        masks, pooled_masks = windows[n, k], F.adaptive_avg_pool2d(windows, side)
        maps = cell_maps(pixels, output.maps.segments, masks, n)
        shape, known = self.network.shape.log_probabilities(maps), upload(populations, self.device)[n]

        def typed_by(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, TypedCells]:
            pooled = types.pool(features, pooled_masks)[n, k]
            measures = self.network.measure(maps, pooled)
            alone = self.network.type_cells(pooled, shape)
            return pooled, measures, self.network.among(alone, measures, known)

        pooled, measures, typed = typed_by(output.features)
        # What the window's border cuts gets a window of its own, and is augmented there.
        whole = np.flatnonzero(~at_border(labels, owners))
        first, owned = typed.logits[upload(whole, self.device)], torch.from_numpy(owners[whole, 0])
        augmented = augment_unclear(self._type_features, pixels, output.features, first, owned)
        if len(augmented.windows):
            pooled, measures, typed = typed_by(augmented.features)
        _, logits, evidence, distance = typed
        likeliest = torch.zeros(windows.shape[:2], dtype=torch.int64, device=self.device)
        likeliest[n, k] = logits.argmax(dim=1)
        cam = types.cam(augmented.features, likeliest)[n, k]
        fine = F.interpolate(cam[:, None], size=masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        energy = (fine * masks).sum(dim=(1, 2)) / fine.sum(dim=(1, 2)).clamp_min(1e-12)
        prior = F.avg_pool2d(output.saliency[:, 0].float(), MAP_STRIDE)[n]
        salient = (prior * masks).sum(dim=(1, 2)) / masks.sum(dim=(1, 2))
        agreement = correlation(cam, F.adaptive_avg_pool2d(prior, side))
        unclear, stability = self._stability(output.features, likeliest, owners, augmented)
        cam = cam / cam.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        head = self.network.morphology
        attributes = head.predict(head.pool(augmented.features, output.texture, output.maps.segments, windows)[n, k])
        typed_from = torch.cat([pooled, evidence], dim=1).half()
        even = evenness(pixels, output.maps.segments.float().softmax(dim=1)[n, 2] * masks, n)
        columns = download(
            logits, distance, cam, energy, salient, agreement, even, attributes, typed_from, measures, stability
        )
        *columns, evennesses, values, kept, measured, found = columns
        stable = dict(zip(unclear.tolist(), found.tolist(), strict=True))
        numeric = (column.tolist() if column.ndim == 1 else column for column in columns)
        stabilities = [stable.get(cell) for cell in range(len(owners))]
        return *numeric, stabilities, evennesses.tolist(), values, kept, measured

    def _stability(
        self, features: torch.Tensor, likeliest: torch.Tensor, owners: NDArray[np.int64], augmented: AugmentedFeatures
    ) -> tuple[NDArray[np.int64], torch.Tensor]:
        """Tell which cells' windows were augmented, and how far the map of each stays on it in the shifted window."""
        unclear = np.flatnonzero(np.isin(owners[:, 0], augmented.windows))
        if not len(unclear):
            return unclear, features.new_empty(0)
        indices = np.stack([np.searchsorted(augmented.windows, owners[unclear, 0]), owners[unclear, 1]])
        index, rows = tuple(upload(indices, self.device)), upload(augmented.windows, self.device)
        # The last row and column of the shifted are made up.
        still, moved = (
            self.network.types.cam(view, likeliest[rows])[index][:, :-1, :-1]
            for view in (features[rows], augmented.shifted)
        )
        return unclear, correlation(still, moved)


def at_border(labels: NDArray[np.uint8], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which of the cells [window, number from 0] the border of their window cuts; labels are uint8 [N, h, w]."""
    border = np.concatenate([labels[:, [0, -1]], labels[..., [0, -1]].transpose(0, 2, 1)], axis=2)
    return np.asarray((border[owners[:, 0]] == owners[:, 1, None, None] + 1).any(axis=(1, 2)))


def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Compute Pearson's correlation [N] of maps [N, h, w]; it is 0 where one of them is flat."""
    a, b = (x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (a, b))
    found: torch.Tensor = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)
    return found

"""The network on batches of windows: device, precision, batch size."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from wbc_cli.cores import available_cores
from wbc_cli.errors import MachineError
from wbc_cli.inference.instances import find_cells
from wbc_cli.inference.second_look import SecondLook, look_again
from wbc_cli.model.folded import put_in_precision
from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.model.network import SGCLDFF, Answer
from wbc_cli.model.saliency import folded

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class WindowCell:
    """A cell as one window shows it.

    Attributes:
        label: its number in the window's label map.
        logits: float32 [classes].
        distance: from the training cells, above 1 where it is unlike them; see `typicality.Typicality`.
        cam: float32 [h, w], Grad-CAM of its likeliest class over the window, 1 at most.
        cam_in_cell: share of the Grad-CAM energy inside the cell's mask, 0 to 1.
        saliency: mean of the prior inside the mask.
        cam_saliency: correlation of the Grad-CAM with the prior over the window.
        cam_stability: correlation of the Grad-CAM with that of the same class in a window shifted by 1.6 um; None for a
            cell whose type is clear, which is not looked at again.
        morphology: int64 [attributes], the likeliest value of each of `morphology.ATTRIBUTES`.
    """

    label: int
    logits: NDArray[np.float32]
    distance: float
    cam: NDArray[np.float32]
    cam_in_cell: float
    saliency: float
    cam_saliency: float
    cam_stability: float | None
    morphology: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WindowAnswer:
    """What the network found in one window.

    Attributes:
        probabilities: float32 [3, h, w], background, cytoplasm, nucleus at stride 2.
        labels: uint8 [h, w], the separated cells.
        cells: one for each label.
        saliency: float32 [h / 4, w / 4], the prior over the window.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8]
    cells: tuple[WindowCell, ...]
    saliency: NDArray[np.float32]


def choose_device(name: str) -> torch.device:
    """The device of `--device auto|cpu|cuda[:N]`.

    Raises:
        MachineError: CUDA was asked for and is not to be had.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= count:
        raise MachineError(f"--device {name}: no such CUDA device here ({count} found); use --device cpu")
    return torch.device(name)


def choose_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The precision of `--precision`; auto is the fastest that the device computes natively.

    Decided by what the processor can do and not by a timing, so that two runs on one machine never differ.
    """
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    # Measured: with AMX tiles 1.4 times as fast as fp32, with AVX-512's bf16 1.8 times; emulated it is slower.
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


class Engine:
    """Runs windows through the network; threads may share it.

    Attributes:
        lanes: how many threads make the most of the device. On the CPU one a core, each computing by itself: faster
            than sharing every layer among the cores, and but for rounding (1e-6) a window's answer does not depend on
            which others are in its batch. On a GPU one lane prepares and reads out while the other computes.
        batch_size: windows a pass; halved for good when the device's memory does not hold them.

    Args:
        network: in evaluation mode; moved to the device.
        device: where to compute.
        dtype: precision of the matrix work.
        batch_size: windows a pass; None chooses by device.
    """

    def __init__(
        self, network: SGCLDFF, device: torch.device, dtype: torch.dtype, batch_size: int | None = None
    ) -> None:
        self.network = network.to(device)
        self._prior = folded(self.network.prior)
        put_in_precision(self._prior, dtype)
        self._fast = self.network.for_inference(dtype)
        if dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # fp32 as asked, not its ten-bit stand-in
        self.config = network.config
        self.device, self.dtype = device, dtype
        # On the CPU twice as many are no faster, and large slides take a quarter more memory.
        self.batch_size = batch_size or (64 if device.type == "cuda" else 8)
        self.lanes = 2 if device.type == "cuda" else available_cores()
        if device.type == "cpu":
            torch.set_num_threads(1)

    def look(self, windows: NDArray[np.uint8]) -> list[WindowAnswer]:
        """Look at uint8 windows [N, S, S, 3], a batch at a time.

        Raises:
            MachineError: the device's memory does not hold a single window.
        """
        answers: list[WindowAnswer] = []
        while len(answers) < len(windows):
            size = self.batch_size
            try:
                answers += self._look(windows[len(answers) : len(answers) + size])
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise MachineError(
                        f"{self.device}: its memory does not hold a single window; free some, or use --device cpu"
                    ) from error
                self.batch_size = min(self.batch_size, size // 2)
                torch.cuda.empty_cache()
                log.warning("%s: out of memory, going on with %d windows a pass", self.device, self.batch_size)
        return answers

    def _look(self, windows: NDArray[np.uint8]) -> list[WindowAnswer]:
        pixels = torch.from_numpy(windows)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        pixels = pixels.permute(0, 3, 1, 2)
        with torch.inference_mode():
            answer = self.answer(pixels)
            probabilities, labels = find_cells(answer.maps, self.config.um_per_px)
            cells = self._cells(pixels, answer, labels)
            saliency = F.avg_pool2d(answer.saliency, 4 * MAP_STRIDE)[:, 0].float().cpu().numpy()
        return [WindowAnswer(*parts) for parts in zip(probabilities, labels, cells, saliency, strict=True)]

    @torch.inference_mode()
    def saliency(self, density: NDArray[np.float32]) -> NDArray[np.float32]:
        """The prior on coarse pictures.

        Args:
            density: float32 [N, H, W, 3], see `saliency.stain_density`.

        Returns:
            float32 [N, ceil(H / 2), ceil(W / 2)], 0 to 1.
        """
        pixels = torch.from_numpy(density).to(self.device).permute(0, 3, 1, 2)
        with self._precision():
            logits = self._prior(pixels)
        answer: NDArray[np.float32] = torch.sigmoid(logits.float())[:, 0].cpu().numpy()
        return answer

    def answer(self, pixels: torch.Tensor) -> Answer:
        """The bare network on windows [N, 3, S, S] on the device, in the engine's precision."""
        with self._precision():
            answer: Answer = self._fast(pixels)
        return answer._replace(features=answer.features.float(), texture=answer.texture.float())

    def _type_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """A batch at a time: the views of unclear windows are up to twice as many as the windows."""
        with self._precision():
            return torch.cat([self._fast.type_features(part).float() for part in torch.split(pixels, self.batch_size)])

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _cells(
        self, pixels: torch.Tensor, answer: Answer, labels: list[NDArray[np.uint8]]
    ) -> list[tuple[WindowCell, ...]]:
        """Type and explain every cell of a batch of windows in one go."""
        owners = [(n, k) for n, window in enumerate(labels) for k in range(int(window.max()))]
        found: list[list[WindowCell]] = [[] for _ in labels]
        if owners:
            types, side = self.network.types, answer.features.shape[-1]
            n, k = torch.tensor(owners, device=self.device).T
            numbers = np.arange(1, int(k.max()) + 2)[:, None, None]
            # Windows with fewer cells have empty masks, too: that costs less than a copy of the features for each cell.
            windows = torch.from_numpy(np.stack(labels)[:, None] == numbers).to(self.device).float()
            masks, places = windows[n, k], F.adaptive_avg_pool2d(windows, side)
            first = types.logits(types.pool(answer.features, places)[n, k])
            # What the window's border cuts gets a window of its own, and a second look there.
            whole = ~(masks[:, [0, -1]].any(dim=2).any(dim=1) | masks[:, :, [0, -1]].any(dim=2).any(dim=1))
            second = look_again(self._type_features, pixels, answer.features, first[whole], n[whole])
            pooled = types.pool(second.features, places)[n, k]
            logits, distance = types.logits(pooled), self.network.typicality(pooled)
            likeliest = torch.zeros(windows.shape[:2], dtype=torch.int64, device=self.device)
            likeliest[n, k] = logits.argmax(dim=1)
            cam = types.cam(second.features, likeliest)[n, k]
            fine = F.interpolate(cam[:, None], size=masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
            energy = (fine * masks).sum(dim=(1, 2)) / fine.sum(dim=(1, 2)).clamp_min(1e-12)
            prior = F.avg_pool2d(answer.saliency[:, 0].float(), MAP_STRIDE)[n]
            salient = (prior * masks).sum(dim=(1, 2)) / masks.sum(dim=(1, 2))
            agreement = correlation(cam, F.adaptive_avg_pool2d(prior, side))
            stability = self._stability(answer.features, likeliest, n, k, second)
            cam = cam / cam.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
            head = self.network.morphology
            looks = head.values(head.pool(second.features, answer.texture, answer.maps.segments, windows)[n, k])
            columns = (
                *(logits.cpu().numpy(), distance.tolist(), cam.cpu().numpy(), energy.tolist(), salient.tolist()),
                *(agreement.tolist(), stability, looks.cpu().numpy()),
            )
            for (window, cell), parts in zip(owners, zip(*columns, strict=True), strict=True):
                found[window].append(WindowCell(cell + 1, *parts))
        return [tuple(cells) for cells in found]

    def _stability(
        self, features: torch.Tensor, likeliest: torch.Tensor, n: torch.Tensor, k: torch.Tensor, second: SecondLook
    ) -> list[float | None]:
        """How far the maps of cells k of windows n stay on them when their window is shifted."""
        seen = torch.isin(n, second.again)
        found: list[float | None] = [None] * len(n)
        if bool(seen.any()):
            place = torch.searchsorted(second.again, n[seen]), k[seen]
            # The last row and column of the shifted are made up.
            still, moved = (
                self.network.types.cam(view, likeliest[second.again])[place][:, :-1, :-1]
                for view in (features[second.again], second.shifted)
            )
            for m, value in zip(seen.nonzero()[:, 0].tolist(), correlation(still, moved).tolist(), strict=True):
                found[m] = value
        return found


def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Pearson's, of maps [N, h, w] of one shape; 0 where one of them is flat."""
    a, b = (x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (a, b))
    found: torch.Tensor = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)
    return found

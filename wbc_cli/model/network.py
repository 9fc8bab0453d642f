"""SG-CLDFF: saliency-guided cross-layer deep feature fusion (after arXiv 2510.17278)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wbc_cli.model.backbone import Backbone
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.evidence import NUCLEATED, PRIOR_POWER, evidence_weight, joint_power, told_apart
from wbc_cli.model.folded import put_in_precision
from wbc_cli.model.fusion import FUSED_STRIDE, CrossLayerFusion
from wbc_cli.model.heads import Maps, SegmentationHead, TypeHead
from wbc_cli.model.morphology_head import MorphologyHead
from wbc_cli.model.morphometric_head import (
    COMPARED,
    MEASURES,
    MORPHOMETRIC_WEIGHT,
    TOLD_APART,
    MorphometricHead,
    measure,
)
from wbc_cli.model.reference_head import KEPT, REFERENCE_WEIGHT, SCORED, ReferenceHead
from wbc_cli.model.saliency import SaliencyPrior, folded, window_saliency
from wbc_cli.model.scale_network import ScaleNet
from wbc_cli.model.shape_head import ShapeHead
from wbc_cli.model.stages import STRIDES
from wbc_cli.model.stain import normalise_stain
from wbc_cli.model.typicality import Typicality


class NetworkOutput(NamedTuple):
    """The output holds what the network computes for a batch of windows.

    Attributes:
        maps: segmentation and offsets at stride 2.
        features: type features, float [N, 2 * width, S / 8, S / 8], to be pooled over each cell's mask.
        texture: the backbone's own features of strides 2 to 8, float [N, C, S / 8, S / 8], for the morphology.
        saliency: the prior over the window, float [N, 1, S, S].
    """

    maps: Maps
    features: Tensor
    texture: Tensor
    saliency: Tensor


class TypedCells(NamedTuple):
    """The cells hold what types them.

    Attributes:
        pooled: float [N, 2 * width], the type features' mean over each cell.
        logits: float [N, classes].
        evidence: float [N, classes], what their shape and the other cells of their sample say, as it is weighed.
        distance: float [N], the Mahalanobis distance from the training cells, see `typicality.Typicality`.
    """

    pooled: Tensor
    logits: Tensor
    evidence: Tensor
    distance: Tensor


class SGCLDFF(nn.Module):
    """The whole model: the prior, the scale estimator and the network proper.

    Args:
        config: the switches and sizes.
        imagenet: ImageNet weights that the backbone starts from, in timm's order; only `stages.PRETRAINED` takes any.

    Raises:
        UsageError: there is no such backbone.
    """

    def __init__(self, config: ModelConfig, imagenet: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.config = config
        self.prior = SaliencyPrior()
        self.scale = ScaleNet()
        in_channels = 4 if config.saliency else 3
        self.backbone = Backbone(config.backbone, in_channels, config.window_px, config.swin, imagenet)
        channels = self.backbone.channels
        self.fusion = CrossLayerFusion(channels, STRIDES, config.width, config.fusion)
        self.segmentation = SegmentationHead(config.width, channels[1], channels[0], config.class_weights)
        self.types = TypeHead(config.width, 2 * config.width, len(config.classes))
        self.typicality = Typicality(2 * config.width, len(config.classes))
        self.shape = ShapeHead(len(config.classes))
        self.morphometry = MorphometricHead()
        self.reference = ReferenceHead(2 * config.width)
        fine = sum(c for c, stride in zip(channels, STRIDES, strict=True) if stride <= FUSED_STRIDE)
        self.morphology = MorphologyHead(2 * config.width + fine)
        # The weights' own read-out, where that of a profile has taken its place, and their own temperature.
        self.register_buffer("own_weight", None, persistent=False)
        self.register_buffer("own_bias", None, persistent=False)
        self._own_temperature: float | None = None

    def forward(self, windows: Tensor) -> NetworkOutput:
        """Run the network on windows.

        Args:
            windows: uint8 or float (0 to 1) [N, 3, S, S], RGB at the config's scale and size.
        """
        stages, saliency = self._stages(windows)
        fused = self.fusion(stages)
        texture = torch.cat(
            [
                F.avg_pool2d(stage, FUSED_STRIDE // stride)
                for stage, stride in zip(stages, STRIDES, strict=True)
                if stride <= FUSED_STRIDE
            ],
            dim=1,
        )
        return NetworkOutput(self.segmentation(fused, stages[1], stages[0]), self.types(fused), texture, saliency)

    def type_features(self, windows: Tensor) -> Tensor:
        """Compute the features of a `NetworkOutput` alone, in two thirds of the time.

        Args:
            windows: as for `forward`.
        """
        stages, _ = self._stages(windows)
        features: Tensor = self.types(self.fusion(stages))
        return features

    def read_out(self) -> tuple[Tensor, Tensor]:
        """Return what types a cell from its pooled features and evidence, as one linear layer.

        Returns:
            The weight, float [classes, 2 * width + classes], and the bias, float [classes].
        """
        return torch.cat([self.types.classify.weight, self.shape.mixing], dim=1), self.types.classify.bias

    @property
    def own_read_out(self) -> tuple[Tensor, Tensor]:
        """The read-out of the weights themselves, by which evidence is weighed whatever profile is put to use."""
        return self.read_out() if self.own_weight is None else (self.own_weight, self.own_bias)

    @torch.no_grad()
    def put_to_use(self, weight: Tensor, bias: Tensor, temperature: float, min_confidence: float) -> None:
        """Type cells by the read-out of a profile, which was learned from evidence that the own one had weighed.

        Args:
            weight, bias: of the shapes that `read_out` returns.
            temperature, min_confidence: take the place of the config's.
        """
        self.own_weight, self.own_bias = (part.clone() for part in self.own_read_out)
        self._own_temperature = self._own_temperature or self.config.temperature
        self.config = replace(self.config, temperature=temperature, min_confidence=min_confidence)
        self.set_read_out(weight, bias)

    @torch.no_grad()
    def set_read_out(self, weight: Tensor, bias: Tensor) -> None:
        """Read types out by another linear layer, of the shapes that `read_out` returns."""
        width = self.types.classify.in_features
        self.types.classify.weight.copy_(weight[:, :width])
        self.shape.mixing.copy_(weight[:, width:])
        self.types.classify.bias.copy_(bias)

    def type_cells(self, pooled: Tensor, shape: Tensor) -> TypedCells:
        """Type cells each by itself, from their texture and colour, and from their shape.

        Args:
            pooled: float [N, 2 * width], the type features' mean over each cell.
            shape: float [N, classes], from `ShapeHead.log_probabilities`.
        """
        distance = self.typicality(pooled)
        evidence = evidence_weight(distance)[:, None] * shape
        weight, bias = self.own_read_out
        logits = F.linear(torch.cat([pooled, evidence], dim=1), weight, bias)
        return TypedCells(pooled, logits, evidence, distance)

    def measure(self, maps: Tensor, pooled: Tensor) -> Tensor:
        """Take of cells what is held against the neutrophils of their laboratory.

        Args:
            maps: float [M, CHANNELS, S, S], from `shape_head.cell_maps`.
            pooled: float [M, 2 * width], the type features' mean over each cell.

        Returns:
            float [M, MEASURED]: the measures of `morphometric_head.measure`, and the scores of the reference head.
        """
        return torch.cat([measure(maps), self.reference.scores(pooled)], dim=1)

    @property
    def compares(self) -> bool:
        """The network holds cells against the neutrophils of their laboratory if this is true."""
        return self.config.morphometry or self.config.reference

    def among(self, cells: TypedCells, measured: Tensor, population: Tensor) -> TypedCells:
        """Type cells by the other cells of their sample as well; it tells nothing where what is known is not a number.

        Args:
            cells: from `type_cells`.
            measured: float [M, MEASURED], from `measure`.
            population: float [M, KEPT + len(NUCLEATED)], what is known of the neutrophils, and the logarithms of the
                class prior, see `inference.population.row_of`.

        Returns:
            What types them in the end, by a profile's read-out where one has been put to use.
        """
        neutrophils, class_prior = population[:, :KEPT], population[:, KEPT:]
        logits, added = cells.logits, torch.zeros_like(cells.logits)
        if self.config.morphometry:
            found = self.morphometry(measured[:, :MEASURES], neutrophils[:, :COMPARED])
            weight = MORPHOMETRIC_WEIGHT * evidence_weight(cells.distance).clamp_min(1)
            added = added + told_apart(logits, found, TOLD_APART, weight)
        if self.config.reference:
            found = self.reference(measured[:, MEASURES:], neutrophils[:, COMPARED:])
            added = added + told_apart(logits + added, found, SCORED, REFERENCE_WEIGHT)
        if self.compares:
            added = _where_known(neutrophils, joint_power(cells.distance)[:, None] * (logits + added) - logits)
        if self.config.class_prior:
            # Probabilities are multiplied, and so logits that are divided by the temperature.
            temperature = self.own_temperature(cells.distance)[:, None]
            joint = PRIOR_POWER * (logits + added)
            told = temperature * told_apart(joint / temperature, class_prior, NUCLEATED, 1.0)
            added = added + _where_known(class_prior, joint + told - logits - added)
        evidence = cells.evidence + added
        weight, bias = self.read_out()
        found = F.linear(torch.cat([cells.pooled, evidence], dim=1), weight, bias)
        return TypedCells(cells.pooled, found, evidence, cells.distance)

    def own_temperature(self, mahalanobis_distance: Tensor) -> Tensor:
        """Compute the temperature that the weights' own logits are calibrated by, float [M], at distances [M]."""
        return (self._own_temperature or self.config.temperature) * self.config.damping(mahalanobis_distance)

    def for_inference(self, dtype: torch.dtype) -> SGCLDFF:
        """Return a copy that gives the same outputs sooner, under autocast to `dtype`; it cannot be trained."""
        fast = copy.deepcopy(self)
        fast.prior = folded(self.prior)
        for part in (fast.backbone, fast.fusion, fast.segmentation, fast.types.embed):
            put_in_precision(part, dtype)
        return fast

    def _stages(self, windows: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute the backbone's stages of windows, and the prior over them."""
        rgb = windows.float() / 255 if windows.dtype == torch.uint8 else windows
        with torch.no_grad(), torch.autocast(rgb.device.type, enabled=False):
            saliency, background = window_saliency(self.prior, rgb, self.config.um_per_px)
            if self.config.stain:
                rgb = normalise_stain(rgb, saliency, background)
        pixels = rgb * 2 - 1
        if self.config.saliency:
            pixels = torch.cat([pixels, saliency], dim=1)
        return self.backbone(pixels.contiguous(memory_format=torch.channels_last)), saliency


def _where_known(known: Tensor, added: Tensor) -> Tensor:
    """Keep what is added to logits, [M, classes], where what it rests on, [M, numbers], is known; elsewhere zeros."""
    return torch.where(known.isnan().any(dim=1, keepdim=True), torch.zeros_like(added), added)

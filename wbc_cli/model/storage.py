"""Weights on disk: safetensors beside config.json, with their checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wbc_cli.errors import SetupError, UsageError
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.files import CONFIG_NAME, WEIGHTS_NAME, checksum, weights_file, write_checksum
from wbc_cli.model.network import SGCLDFF


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference, and where it came from."""

    network: SGCLDFF
    folder: Path
    checksum: str


def load(folder: Path) -> LoadedModel:
    """Load a model for inference (fp32, evaluation mode, on the CPU).

    Raises:
        SetupError: weights or config are missing, damaged, or do not fit each other.
    """
    found = checksum(folder)
    state = read_state(folder)
    try:
        network = SGCLDFF(read_config(folder))
        network.load_state_dict(state)
    except (UsageError, RuntimeError, ValueError, TypeError) as error:
        raise SetupError(f"{folder}: the weights do not fit {CONFIG_NAME} ({error}); reinstall") from error
    network.eval().to(memory_format=torch.channels_last)
    return LoadedModel(network, folder, found)


def read_config(folder: Path) -> ModelConfig:
    """Read the config of the weights in `folder`.

    Raises:
        SetupError: it is missing or holds something else.
    """
    return ModelConfig.from_file(folder / CONFIG_NAME)


def read_state(folder: Path) -> dict[str, Tensor]:
    """Read the tensors in `folder` by name, floating ones as float32.

    Raises:
        SetupError: the file is missing or damaged.
    """
    file = weights_file(folder)
    try:
        return {name: tensor.float() for name, tensor in load_file(file).items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise SetupError(f"{file}: the weights are damaged ({error}); reinstall") from error


def save(network: SGCLDFF, config: ModelConfig, folder: Path) -> None:
    """Write weights in half precision (counters aside) and config.json into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: (tensor.detach().cpu().half() if tensor.is_floating_point() else tensor.detach().cpu()).contiguous()
        for name, tensor in network.state_dict().items()
    }
    save_file(state, folder / WEIGHTS_NAME)
    write_checksum(folder)
    (folder / CONFIG_NAME).write_text(config.to_json(), encoding="utf-8")

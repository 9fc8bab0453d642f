"""`wbc-cli train`: from a manifest to a folder of weights."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from wbc_cli.errors import UsageError
from wbc_cli.inference.scale_estimation import estimate_scale
from wbc_cli.manifest import Sample, read_manifest
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.files import CONFIG_NAME
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.storage import save
from wbc_cli.resources.cores import available_cores
from wbc_cli.slides import open_slide
from wbc_cli.training.card import write_card
from wbc_cli.training.centred import CentredView, centred_views, fit_temperature, fit_typicality, validate
from wbc_cli.training.curve import draw_curve
from wbc_cli.training.data import TrainingImage, load_image, scale_by_cells
from wbc_cli.training.laboratory_training import fit_morphometry, fit_reference
from wbc_cli.training.loop import Training, train_network
from wbc_cli.training.morphology_training import fit_morphology
from wbc_cli.training.prior_training import train_prior
from wbc_cli.training.scale_training import train_scale
from wbc_cli.training.settings import TrainSettings
from wbc_cli.training.shape_training import fit_shape
from wbc_cli.training.start import Start

log = logging.getLogger(__name__)

RUN_NAME = "run.json"
"""The options of the run that a folder holds: `config`, `settings`, `exclude` (a list of data sets) and `start`."""

_FROM_SCRATCH = Start()
_MAX_TYPICAL = 25  # images of a set and label, to learn from them what is typical
_MAX_HELD_OUT = 40  # of those, that the temperature is fitted on
_MAX_VALIDATED = 4  # of those, that are validated on during training
_MAX_MEASURED = 150  # cells of a set and class, that the morphometric and the reference head learn from
_MAX_DESCRIBED = 1500  # images that the attributes of cells are learned from


def train(
    manifest: Path,
    folder: Path,
    config: ModelConfig,
    settings: TrainSettings,
    exclude: Sequence[str],
    device: torch.device,
    start: Start = _FROM_SCRATCH,
) -> ModelConfig:
    """Train a model and write weights, config, card and learning curve; goes on where a killed run stopped.

    Args:
        manifest: CSV of labelled images with a split column.
        folder: made if need be.
        config: the model's switches.
        settings: the recipe.
        exclude: data sets that are left out altogether.
        device: where to train.
        start: earlier weights to take over.

    Returns:
        The config that was written.

    Raises:
        UsageError: the manifest has nothing to train or validate on, `folder` holds another run, or a share of earlier
            weights, or no step, is asked for and there are none.
        SetupError: the ImageNet weights are not installed, or weights to begin from cannot be read.
    """
    samples = [s for s in read_manifest(manifest) if s.dataset not in exclude]
    training_split, validation_split = ([s for s in samples if s.split == split] for split in ("train", "val"))
    if not training_split or not validation_split:
        raise UsageError(f"{manifest}: training needs rows of the splits train and val")
    if settings.start_share and not start.weights:
        raise UsageError("--set start_share is a share of the weights of --from; give --from, or leave it out")
    if not settings.steps and not start.weights:
        raise UsageError("--set steps=0 keeps the network of --from; give --from, or at least one step")
    torch.manual_seed(settings.seed)
    network = start.network(config, settings.imagenet).to(device).to(memory_format=torch.channels_last)
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(folder, config, settings, exclude, start)
    training, images = _begin(network, training_split, settings, folder, device, start)
    held_out = _load(validation_split, network)
    averaged = train_network(training, images, _examples(held_out, settings.seed, _MAX_VALIDATED))
    start.blend(averaged, settings.start_share)
    views = _fit_to_features(averaged, images, held_out, settings, device)
    config = replace(config, temperature=round(fit_temperature(views), 4))
    save(averaged, config, folder)
    if settings.steps:
        draw_curve(folder)
    write_card(folder, samples, config, settings, exclude, validate(views), start)
    log.info("wrote %s, temperature %.3f", folder, config.temperature)
    return config


def _begin(
    network: SGCLDFF, split: Sequence[Sample], settings: TrainSettings, folder: Path, device: torch.device, start: Start
) -> tuple[Training, list[TrainingImage]]:
    """Train what learns before the network proper, which takes it as it is: the scale estimator and the prior.

    Returns:
        The run, at the step where it was stopped, if it was; and the images, whose scale the estimator may have said.
    """
    network.prior.requires_grad_(False)
    network.scale.requires_grad_(False)
    training = Training(network, settings, folder, device)
    if training.resume():
        return training, _load(split, network)
    if start.learns_scale:
        train_scale(network.scale, split, settings.scale_steps, settings.seed, device)
    images = _load(split, network)
    if start.learns_prior:
        train_prior(network.prior, images, settings.prior_steps, settings.seed, device)
    training = Training(network, settings, folder, device)  # whose average begins with what has been learned here
    training.save()
    return training, images


def _fit_to_features(
    network: SGCLDFF,
    images: Sequence[TrainingImage],
    held_out: Sequence[TrainingImage],
    settings: TrainSettings,
    device: torch.device,
) -> list[CentredView]:
    """Fit what rests on the finished features: the heads learned last, what is typical, attributes.

    Returns:
        Views of held-out images, for what is still to be fitted or measured on them.
    """

    def views_of(chosen: Sequence[TrainingImage]) -> list[CentredView]:
        return list(centred_views(network, chosen, device, test_time_augmentation=True))

    seed = settings.seed
    if network.config.shape:
        fit_shape(network, images, settings, device)
    validated = _examples(held_out, seed, _MAX_HELD_OUT)
    fit_typicality(network, views_of(_examples(images, seed, _MAX_TYPICAL)), views_of(validated))
    measured = views_of(_cells(images, seed, _MAX_MEASURED))
    if network.config.morphometry:
        fit_morphometry(network.morphometry, measured)
    if network.config.reference:
        fit_reference(network.reference, measured)
    views = views_of(validated)  # once more: how far a cell is from the typical ones weighs in its type
    described = [image for image in images if image.sample.morphology]
    described = [described[i] for i in np.random.default_rng((seed, 6)).permutation(len(described))]
    fit_morphology(network.morphology, views_of(described[:_MAX_DESCRIBED]), views, seed)
    return views


def _load(samples: Sequence[Sample], network: SGCLDFF) -> list[TrainingImage]:
    """Load images; those without a scale have one by the size of their masked cells, or by an estimate."""
    log.info("loading %d images", len(samples))

    def load(sample: Sample) -> TrainingImage:
        return load_image(sample, sample.um_per_px or scale_by_cells(sample) or _estimated(sample, network))

    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(load, samples))


def _estimated(sample: Sample, network: SGCLDFF) -> float:
    with closing(open_slide(sample.image)) as reader:
        return estimate_scale(network.scale, reader).um_per_px


def _examples(images: Sequence[TrainingImage], seed: int, most: int) -> list[TrainingImage]:
    """Choose at most so many images of every set and label."""
    groups: dict[tuple[str, tuple[str, ...]], list[TrainingImage]] = defaultdict(list)
    for index in np.random.default_rng((seed, 5)).permutation(len(images)):
        groups[images[index].sample.dataset, images[index].sample.labels].append(images[index])
    return [image for group in groups.values() for image in group[:most]]


def _cells(images: Sequence[TrainingImage], seed: int, most: int) -> list[TrainingImage]:
    """Choose at most so many typed cells of every set and class, and return the image of each with that cell alone."""
    cells = [replace(image, targets=(target,)) for image in images for target in image.targets if target.label >= 0]
    groups: dict[tuple[str, int], list[TrainingImage]] = defaultdict(list)
    for index in np.random.default_rng((seed, 5)).permutation(len(cells)):
        groups[cells[index].sample.dataset, cells[index].targets[0].label].append(cells[index])
    return [cell for group in groups.values() for cell in group[:most]]


def is_trained(
    folder: Path,
    config: ModelConfig,
    settings: TrainSettings,
    exclude: Sequence[str],
    start: Start = _FROM_SCRATCH,
) -> bool:
    """Tell whether a folder holds the weights of a run with these options that came to its end."""
    file = folder / RUN_NAME
    same = file.exists() and file.read_text(encoding="utf-8") == _options(config, settings, exclude, start)
    return same and (folder / CONFIG_NAME).exists()  # which is written after the weights


def _same_run(
    folder: Path,
    config: ModelConfig,
    settings: TrainSettings,
    exclude: Sequence[str],
    start: Start,
) -> None:
    """See that a folder is resumed with the options it was begun with."""
    file, text = folder / RUN_NAME, _options(config, settings, exclude, start)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UsageError(f"{folder}: holds a run with other settings; give another folder, or delete it")
    file.write_text(text, encoding="utf-8")


def _options(config: ModelConfig, settings: TrainSettings, exclude: Sequence[str], start: Start) -> str:
    options = {
        "config": asdict(config),
        "settings": asdict(settings),
        "exclude": sorted(exclude),
        "start": start.files() | {"anew": start.anew},
    }
    return json.dumps(options, indent=2)

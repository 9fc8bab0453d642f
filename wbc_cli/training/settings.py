"""What a training run can be told, on the command line by `--set name=value`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from wbc_cli.errors import UsageError
from wbc_cli.model.config import ModelConfig

_LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("batch", "prior_steps", "scale_steps", "shape_steps", "width"), (1, 1e9)),
    **dict.fromkeys(("min_confidence", "saliency_threshold", "start_share"), (0, 1)),
    "steps": (0, 1e9),
    "ema": (0, 0.99999),
    "learning_rate": (1e-9, 1),
    "weight_decay": (0, 1),
    "seed": (0, 2**32 - 1),
    "window_px": (32, 1024),
    "um_per_px": (0.03, 2),
    "temperature": (0.01, 100),
}
"""The least and greatest value of each setting that is a number."""

_WORDS = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


@dataclass(frozen=True)
class TrainSettings:
    """The budget and the recipe.

    Attributes:
        steps: optimiser steps of the network proper; with 0 the network of --from stays, and what is learned after it
            is learned anew.
        batch: windows a step.
        learning_rate: peak for new layers; the backbone learns at half of it.
        weight_decay: of AdamW.
        ema: decay of the averaged weights, which are the ones that are kept.
        start_share: share of the weights of --from in those that are kept (WiSE-FT, Wortsman et al., CVPR 2022): with a
            third, sets of old go as with the old ones, and new sets as with the new ones.
        prior_steps: steps of the saliency prior.
        scale_steps: steps of the scale estimator.
        shape_steps: steps of the shape head.
        imagenet: the backbone begins with ImageNet's weights, where there are some for it, and not with random ones.
        seed: of everything that is drawn.
    """

    steps: int = 2600
    batch: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    ema: float = 0.998
    start_share: float = 0.0
    prior_steps: int = 2000
    scale_steps: int = 4000
    shape_steps: int = 3500
    imagenet: bool = True
    seed: int = 0


def apply_settings(pairs: Iterable[str]) -> tuple[ModelConfig, TrainSettings]:
    """Turn `name=value` pairs into a config and settings; switches take on and off.

    Raises:
        UsageError: an unknown name or a value of the wrong kind.
    """
    config, settings = ModelConfig(), TrainSettings()
    for pair in pairs:
        name, _, text = pair.partition("=")
        holder: ModelConfig | TrainSettings = config if hasattr(config, name) else settings
        known = {f.name: getattr(holder, f.name) for f in fields(holder)}
        if name not in known or not text:
            names = sorted(f.name for c in (ModelConfig, TrainSettings) for f in fields(c))
            raise UsageError(f"--set {pair}: give name=value with one of the names {', '.join(names)}")
        changed: Any = replace(holder, **{name: _parse(pair, text, known[name])})  # type: ignore[arg-type]
        config, settings = (changed, settings) if holder is config else (config, changed)
    return config, settings


def _parse(pair: str, text: str, default: object) -> object:
    least, most = _LIMITS.get(pair.partition("=")[0], (-math.inf, math.inf))
    try:
        if isinstance(default, bool):
            return _WORDS[text.lower()]
        if isinstance(default, (int, float, str)):
            value = type(default)(text)
            if isinstance(value, str) or least <= value <= most:
                return value
    except (KeyError, ValueError):
        pass
    bounds = "" if isinstance(default, (bool, str)) else f", from {least:g} to {most:g}"
    raise UsageError(f"--set {pair}: the value must be like {default!r}{bounds}")

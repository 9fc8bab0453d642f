"""A profile put to use: its type head in the place of the shipped one."""

from __future__ import annotations

from pathlib import Path

import torch

from wbc_cli.model.storage import LoadedModel
from wbc_cli.profile.file import Profile


def apply_profile(profile: Profile, model: LoadedModel, path: Path) -> None:
    """Have a model type cells as a profile says.

    Everything that follows from the types follows with them: test-time augmentation, Grad-CAM, confidence.

    Args:
        profile: of a laboratory.
        model: changed in place.
        path: of the profile, for the message.

    Raises:
        UsageError: the profile was learned with other weights.
    """
    profile.refuse_other_weights(model.checksum, path)
    weight, bias = torch.tensor(profile.weight), torch.tensor(profile.bias)
    model.network.put_to_use(weight, bias, profile.temperature, profile.min_confidence)

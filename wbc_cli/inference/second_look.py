"""A second look at cells whose type is not clear: their window turned, and what the network sees averaged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wbc_cli.model.network import Answer

# Lead of the likeliest class over the next, in logits. On the validation split of PBC one cell in ten has less, and
# turning the others as well changes no answer.
_CLEAR = 2.0
_TURNS = (1, 2, 3)


def look_again(
    network: Callable[[Tensor], Answer], pixels: Tensor, features: Tensor, logits: Tensor, windows: Tensor
) -> Tensor:
    """Average the features of windows that show an unclear cell over four turns of the window.

    A network is not quite indifferent to how a cell lies; the turns disagree where it is unsure.

    Args:
        network: that the features are from, as it was run.
        pixels: uint8 or float [N, 3, S, S], the windows.
        features: float [N, C, h, w], of the windows as they lie.
        logits: float [M, classes], of cells.
        windows: int64 [M], the window of each.

    Returns:
        float [N, C, h, w], to type all their cells from.
    """
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    again = torch.unique(windows[first - second < _CLEAR])
    if not len(again):
        return features
    # All turns in one pass: a few windows at a time would leave the device half idle.
    turned = network(torch.cat([torch.rot90(pixels[again], turn, (2, 3)) for turn in _TURNS])).features
    mean = features[again]
    for turn, part in zip(_TURNS, turned.chunk(len(_TURNS)), strict=True):
        mean = mean + torch.rot90(part, -turn, (2, 3))
    return features.index_copy(0, again, mean / (1 + len(_TURNS)))

"""features.safetensors: what the type of each cell was read from, to read it anew without the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from wbc_cli.cells import SlideResult
from wbc_cli.slides.reader import SlideReader

_NAME = "features"


def write_features(result: SlideResult, _reader: SlideReader, path: Path) -> None:
    """Write the features of all cells, float16 [cells, width + classes]; row i is of cell i + 1.

    It takes half a kilobyte a cell.

    Raises:
        OSError: the disk is full or read-only.
    """
    cells = sorted(result.cells, key=lambda cell: cell.id)
    rows = np.stack([cell.features for cell in cells]) if cells else np.zeros((0, 0), np.float16)
    save_file({_NAME: np.ascontiguousarray(rows, np.float16)}, path)


def read_features(path: Path) -> NDArray[np.float16] | None:
    """Read what `write_features` wrote; None where there is no such file, or it holds something else."""
    try:
        rows = load_file(path).get(_NAME)
    except (OSError, SafetensorError):
        return None
    return rows if rows is not None and rows.ndim == 2 and rows.dtype == np.float16 else None

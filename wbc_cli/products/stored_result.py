"""result.npz: what the analysis of a slide yielded, kept so that further products need no further analysis.

An archive of plain arrays: `header` is JSON in UTF-8 of all that is no array; of the cells, in their order, `masks`,
`cams` and `saliencies` have the pixels one behind the other, `probabilities` and `features` a row each.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import Cell, Explanation, Quality, Scale, SlideResult

RESULT = "result.npz"
_VERSION = 1

_OF_CELL = (
    *("id", "x", "y", "box", "class_name", "confidence", "area_um2", "nucleus_area_um2", "saliency"),
    *("cam_in_cell", "cam_saliency", "cam_stability", "flags", "morphology"),
)
_OF_SLIDE = ("width", "height", "windows", "flags", "unreadable", "refusal", "file_pixels")

_Number = TypeVar("_Number", bound=np.generic)
_Shape = Sequence[int]


def write_result(result: SlideResult, path: Path) -> None:
    """Write a result but for its name, path and wall times, which the record has; about 4 kB a cell.

    Raises:
        OSError: the disk is full or read-only.
    """
    cells = result.cells
    header = {
        "version": _VERSION,
        **{name: getattr(result, name) for name in _OF_SLIDE},
        "scale": asdict(result.scale),
        "quality": asdict(result.quality),
        "cells": [_cell_header(cell) for cell in cells],
    }
    np.savez_compressed(
        path,
        header=np.frombuffer(json.dumps(header, default=_plain).encode(), np.uint8),
        masks=_joined([cell.mask for cell in cells], np.uint8),
        cams=_joined([cell.explanation.cam for cell in cells], np.float32),
        saliencies=_joined([cell.explanation.saliency for cell in cells], np.float32),
        probabilities=_rows([cell.probabilities for cell in cells], np.float32),
        features=_rows([cell.features for cell in cells], np.float16),
    )


def read_result(path: Path, name: str, slide: Path) -> SlideResult | None:
    """Read what `write_result` wrote.

    Args:
        path: the file.
        name: of the slide, as it is called now.
        slide: its file, where that is now.

    Returns:
        The same result, without wall times; None where there is no such file, or of another version, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            if header["version"] != _VERSION:
                return None
            cells = tuple(_cells(header["cells"], arrays))
        return SlideResult(
            name=name,
            path=slide,
            cells=cells,
            scale=Scale(**header["scale"]),
            quality=Quality(**header["quality"]),
            **{key: _tupled(header[key]) for key in _OF_SLIDE},
        )
    except (OSError, EOFError, BadZipFile, zlib.error, ValueError, KeyError, TypeError, IndexError):
        return None


def _cell_header(cell: Cell) -> dict[str, Any]:
    why = cell.explanation
    place = {"place": (why.x, why.y, why.side), "cam": why.cam.shape, "prior": why.saliency.shape}
    return {**{name: getattr(cell, name) for name in _OF_CELL}, **place}


def _cells(headers: Sequence[dict[str, Any]], arrays: Any) -> Iterator[Cell]:  # noqa: ANN401 - numpy's has no type
    boxes = (header["box"] for header in headers)
    masks = _parts(arrays["masks"], [(y1 - y0, x1 - x0) for x0, y0, x1, y1 in boxes])
    cams = _parts(arrays["cams"], [header["cam"] for header in headers])
    priors = _parts(arrays["saliencies"], [header["prior"] for header in headers])
    rows = zip(arrays["probabilities"], arrays["features"], strict=True)
    for header, mask, cam, prior, (probabilities, features) in zip(headers, masks, cams, priors, rows, strict=True):
        x, y, side = header["place"]
        yield Cell(
            mask=mask,
            probabilities=probabilities,
            features=features,
            explanation=Explanation(x, y, side, cam, prior),
            **{key: _tupled(header[key]) for key in _OF_CELL},
        )


def _joined(arrays: Sequence[NDArray[_Number]], dtype: type[_Number]) -> NDArray[_Number]:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(array, dtype).ravel() for array in arrays)])


def _rows(arrays: Sequence[NDArray[_Number]], dtype: type[_Number]) -> NDArray[_Number]:
    return np.stack(arrays).astype(dtype, copy=False) if arrays else np.zeros((0, 0), dtype)


def _parts(joined: NDArray[_Number], shapes: Sequence[_Shape]) -> Iterator[NDArray[_Number]]:
    start = 0
    for height, width in shapes:
        yield joined[start : start + height * width].reshape(height, width)
        start += height * width


def _plain(value: np.generic) -> Any:  # noqa: ANN401 - whatever number it is
    return value.item()


def _tupled(value: Any) -> Any:  # noqa: ANN401 - whatever JSON has
    return tuple(value) if isinstance(value, list) else value

"""The round field that an eyepiece shows, in a black, white or blurred surround that is no part of the specimen."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.slides.fault_tolerant import is_slide
from wbc_cli.slides.pixels import map_over_region, shrink, shrunk_size
from wbc_cli.slides.reader import ReaderWrapper, RGBImage, SlideReader

_SIDE_PX = 256  # pixels of the longer side of the picture that the field is found on
_MAX_SURROUND_LIGHT = 0.3  # of the field's light: darker is a surround, and no nucleus in all three channels
_MAX_RIM_LIGHT = 0.6  # of it: so far the blurred rim of a surround reaches
_WHITE_INTENSITY = 250
_MIN_SURROUND_SHARE = 0.04  # share of the picture; less is a shadow in a corner
_MIN_FIELD_SHARE, _MIN_WHITE_FIELD_SHARE = 0.1, 0.35
_MIN_BACKGROUND_SHARE = 0.2  # share of a field's pixels that show background
_MAX_BACKGROUND_DIFFERENCE = 25  # grey levels by which these differ at most
_MIN_OBJECT_PX, _MIN_OBJECTS = 6, 14  # pixels, and how many objects of so many a field shows; a cell shows a few lobes
_MAX_DENT_SHARE = 0.12  # share of the surround inside the convex hull of the field, which a cell at the border dents
_RIM_SHARE = 0.015  # of the longer side: the field's edge is blurred
_BACKGROUND_PERCENTILE = 85


def find_field(reader: SlideReader) -> NDArray[np.bool_] | None:
    """Find the field of view in a photograph taken through an eyepiece.

    Args:
        reader: the picture.

    Returns:
        bool [h, w], the picture shrunk to 256 pixels or less, true inside the field; None where all of it is field.

    Raises:
        SlideError: the picture cannot be read.
    """
    downsample = max(1.0, max(reader.width, reader.height) / _SIDE_PX)
    rgb = reader.read(0, 0, reader.width, reader.height, downsample)
    light = cv2.GaussianBlur(np.max(cv2.split(rgb), axis=0), (0, 0), 1.0)  # by planes: a tenth of the time
    bright = float(np.median(light[light >= np.median(light)]))
    surround = _touching_corners(light < _MAX_SURROUND_LIGHT * bright)
    if surround.mean() >= _MIN_SURROUND_SHARE:
        surround |= _touching_corners(light < _MAX_RIM_LIGHT * bright) & (
            cv2.dilate(surround.view(np.uint8), _disc(5)) > 0
        )
    else:
        surround = _touching_corners(np.min(cv2.split(rgb), axis=0) >= _WHITE_INTENSITY)
        if not _MIN_SURROUND_SHARE <= surround.mean() <= 1 - _MIN_WHITE_FIELD_SHARE:
            return None
        if not _has_many_objects(rgb, ~surround):
            return None  # a cell on white background
    if surround.mean() > 1 - _MIN_FIELD_SHARE:
        return None
    field = _largest(~surround)
    hull = np.zeros(field.shape, np.uint8)
    points = np.argwhere(field)[:, ::-1].astype(np.int32)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    if (hull.view(np.bool_) & surround).sum() > _MAX_DENT_SHARE * surround.sum():
        return None
    # What lies beyond the picture is no surround.
    reach = max(1, round(_RIM_SHARE * max(field.shape)))
    inner: NDArray[np.bool_] = cv2.erode(hull, _disc(reach), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    return inner if inner.any() else None


def within_field(reader: SlideReader) -> SlideReader:
    """Hide what lies outside the round field of view of a picture; slides are returned as they are.

    Raises:
        SlideError: the picture cannot be read.
    """
    if is_slide(reader):  # scanners have no eyepiece
        return reader
    field = find_field(reader)
    return reader if field is None else FieldReader(reader, field)


class FieldReader(ReaderWrapper):
    """A picture as a `SlideReader` that shows the colour of its background outside the round field of view.

    Args:
        reader: the picture; closed with this one.
        field: from `find_field`.

    Raises:
        SlideError: the picture cannot be read.
    """

    def __init__(self, reader: SlideReader, field: NDArray[np.bool_]) -> None:
        super().__init__(reader)
        self._field = field.astype(np.float32)
        small = reader.read(0, 0, reader.width, reader.height, max(1.0, max(reader.width, reader.height) / _SIDE_PX))
        self._background = np.percentile(small[field], _BACKGROUND_PERCENTILE, axis=0).astype(np.uint8)

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`."""
        columns, rows = shrunk_size(width, height, downsample)
        region = self.reader.read(x, y, width, height, downsample)
        region = shrink(region, columns, rows).copy()
        inside = map_over_region(self._field, self, x, y, width, height, (columns, rows))
        region[inside < 0.5] = self._background
        return region


def _touching_corners(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the connected pieces of a mask that hold a corner of the picture."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    corners = {int(pieces[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    found: NDArray[np.bool_] = np.isin(pieces, list(corners))
    return found


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return mask if count < 2 else np.asarray(pieces == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def _has_many_objects(rgb: NDArray[np.uint8], field: NDArray[np.bool_]) -> bool:
    """Tell whether a field shows several objects on a ground of one colour, and is not itself a cell."""
    field = cv2.erode(field.astype(np.uint8), _disc(3)) > 0  # its own rim is no thing
    if not field.any():
        return False
    background = np.percentile(rgb[field], _BACKGROUND_PERCENTILE, axis=0)
    objects = (np.abs(rgb - background).max(axis=2) > _MAX_BACKGROUND_DIFFERENCE) & field
    if objects.sum() > (1 - _MIN_BACKGROUND_SHARE) * field.sum():
        return False
    _, _, stats, _ = cv2.connectedComponentsWithStats(objects.astype(np.uint8))
    return int(np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] >= _MIN_OBJECT_PX)) >= _MIN_OBJECTS


def _disc(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)

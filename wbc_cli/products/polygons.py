"""Regions of pixels as polygons along the edges of their pixels, so that n pixels have an area of n."""

from __future__ import annotations

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.polygon import orient


def largest_piece(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest piece of a region; of equals the first in reading order.

    Args:
        region: bool [h, w]; pixels that only touch at a corner belong to different pieces.

    Returns:
        bool [h, w], empty where the region is.
    """
    count, pieces = cv2.connectedComponents(region.astype(np.uint8), connectivity=4)
    if count <= 2:  # the background is one of them
        return region
    piece: NDArray[np.bool_] = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return piece


def trace(piece: NDArray[np.bool_], x: int, y: int) -> shapely.Polygon:
    """Trace the edges of a piece's pixels, holes as well.

    Args:
        piece: bool [h, w], of one piece and not empty, see `largest_piece`.
        x: where its left edge is.
        y: where its upper edge is.

    Returns:
        A valid polygon with whole coordinates, the exterior counterclockwise where y goes up, as RFC 7946 wants it.
    """
    exterior, *holes = (ring + np.array([x, y]) for ring in _rings(piece))
    polygon = shapely.Polygon(exterior, holes)
    if not polygon.is_valid:  # a ring meets itself where two pixels touch at a corner only
        polygon = max(shapely.get_parts(shapely.make_valid(polygon)), key=lambda part: part.area)
    return orient(polygon)


def _rings(region: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Link the corners of a region's outline, int [n, 2] as x and y; the first ring goes around its first pixel.

    In a row of corners the first and the second are the ends of an edge, so are the third and the fourth, and likewise
    in a column. A corner where only diagonal neighbours are inside belongs to four edges and stands there twice.
    """
    padded = np.pad(region, 1)
    upper, lower = padded[:-1], padded[1:]
    upper_left, upper_right, lower_left, lower_right = upper[:, :-1], upper[:, 1:], lower[:, :-1], lower[:, 1:]
    single = upper_left ^ upper_right ^ lower_left ^ lower_right
    double = (upper_left == lower_right) & (upper_right == lower_left) & (upper_left != upper_right)
    rows, columns = np.nonzero(single | double)
    twice = 1 + double[rows, columns]
    rows, columns = rows.repeat(twice), columns.repeat(twice)
    ends = np.lexsort((rows, columns)).reshape(-1, 2)  # of the edges in the columns
    other_end = np.empty(len(rows), np.intp)
    other_end[ends] = ends[:, ::-1]
    corners, partners = np.stack([columns, rows], axis=1), other_end.tolist()
    rings, seen = [], bytearray(len(corners))
    for first in range(0, len(corners), 2):
        ring: list[int] = []
        corner = first
        while not seen[corner]:
            ring += (corner, corner ^ 1)  # along a row
            seen[corner] = seen[corner ^ 1] = True
            corner = partners[corner ^ 1]  # along a column
        if ring:
            rings.append(corners[ring])
    return rings

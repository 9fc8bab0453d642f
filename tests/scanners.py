"""Slides as scanners write them, with a picture that is known."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import UID, JPEGBaseline8Bit, generate_uid
from tiles import picture

UM_PER_PX = 0.25
FIELD = picture(2 * 304, 3 * 256)


def pyramid(image: np.ndarray, *steps: int) -> list[np.ndarray]:
    """The picture and its smaller copies."""
    height, width = image.shape[:2]
    sizes = [(width // step, height // step) for step in steps]
    return [image, *(cv2.resize(image, size, interpolation=cv2.INTER_AREA) for size in sizes)]


def jpeg(image: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **{"quality": 90, "subsampling": 0, **options})
    return buffer.getvalue()


def tiles_of(image: np.ndarray, side: int) -> list[np.ndarray]:
    height, width = image.shape[:2]
    whole = cv2.copyMakeBorder(image, 0, -height % side, 0, -width % side, cv2.BORDER_REPLICATE)
    places = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    return [np.ascontiguousarray(whole[y : y + side, x : x + side]) for y, x in places]


# Hamamatsu


def write_ndpi(
    path: Path, levels: list[np.ndarray], blocks: int = 16, depths: tuple[int, ...] = (0,), **options: object
) -> Path:
    """An NDPI of the levels, each a JPEG with a restart marker behind each stretch of so many blocks.

    Depths: of the planes that it has. Options: of the JPEG.
    """
    content = bytearray(b"II*\0" + bytes(8))
    link = 4  # where the place of the next directory goes
    for depth in depths:
        for level in levels:
            stream = jpeg(level, restart_marker_blocks=blocks, **options)
            start = len(content)
            content += stream + bytes(-len(stream) % 2)
            starts = _starts_of_stretches(stream)
            places_at = len(content)
            content += struct.pack(f"<{len(starts)}I", *starts)
            bits_at, make_at, resolution_at = (len(content) + at for at in (0, 6, 16))
            content += struct.pack("<3H10s", 8, 8, 8, b"Hamamatsu")
            content += struct.pack("<2I", round(level.shape[1] / levels[0].shape[1] * 10_000 / UM_PER_PX), 1)
            struct.pack_into("<Q", content, link, len(content))
            tags = [
                *((256, 4, 1, level.shape[1]), (257, 4, 1, level.shape[0]), (258, 3, 3, bits_at), (259, 3, 1, 7)),
                *((262, 3, 1, 6), (271, 2, 10, make_at)),
                *((273, 4, 1, start), (277, 3, 1, 3), (278, 4, 1, level.shape[0]), (279, 4, 1, len(stream))),
                *((282, 5, 1, resolution_at), (283, 5, 1, resolution_at), (296, 3, 1, 3), (65420, 4, 1, 1)),
                (65421, 11, 1, struct.unpack("<I", struct.pack("<f", 40 * level.shape[1] / levels[0].shape[1]))[0]),
                *((65424, 9, 1, depth & 0xFFFFFFFF), (65426, 4, len(starts), places_at)),
            ]
            content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<2H2I", *tag) for tag in tags)
            link = len(content)
            content += bytes(8 + 4 * len(tags))
    path.write_bytes(content)
    return path


def _starts_of_stretches(stream: bytes) -> list[int]:
    scan = stream.index(b"\xff\xda")
    first = scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4])
    markers = (at for at in range(first, len(stream) - 1) if stream[at] == 0xFF and 0xD0 <= stream[at + 1] <= 0xD7)
    return [first, *(at + 2 for at in markers)]


# DICOM


def write_dicom(
    folder: Path,
    levels: list[np.ndarray],
    tile: int = 128,
    *,
    table: str = "basic",
    rgb: bool = False,
    sparse: bool = False,
) -> Path:
    """A DICOM slide, a file for each level. Table: of the places of its frames, `basic`, `extended` or `none`.

    Sparse: each frame says where it lies.
    """
    folder.mkdir(exist_ok=True)
    series = generate_uid()
    for number, level in enumerate(levels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.6")
        meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), JPEGBaseline8Bit
        own = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
        own.SOPClassUID, own.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        own.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if number else "NONE"]
        own.Modality, own.SeriesInstanceUID, own.InstanceNumber = "SM", series, number
        own.DimensionOrganizationType, own.SamplesPerPixel, own.PlanarConfiguration = "TILED_FULL", 3, 0
        own.PhotometricInterpretation = "RGB" if rgb else "YBR_FULL_422"
        own.Rows = own.Columns = tile
        own.BitsAllocated, own.BitsStored, own.HighBit, own.PixelRepresentation = 8, 8, 7, 0
        own.TotalPixelMatrixRows, own.TotalPixelMatrixColumns = level.shape[:2]
        shared, measures = Dataset(), Dataset()
        measures.PixelSpacing = [UM_PER_PX / 1000 * levels[0].shape[1] / level.shape[1]] * 2
        shared.PixelMeasuresSequence = [measures]
        own.SharedFunctionalGroupsSequence = [shared]
        frames = [jpeg(each, keep_rgb=rgb, subsampling=0 if rgb else 1) for each in tiles_of(level, tile)]
        own.NumberOfFrames = len(frames)
        if sparse:
            own.DimensionOrganizationType = "TILED_SPARSE"
            own.PerFrameFunctionalGroupsSequence = [
                _place(i, -(-level.shape[1] // tile), tile) for i in range(len(frames))
            ]
        if table == "extended":
            pixels, own.ExtendedOffsetTable, own.ExtendedOffsetTableLengths = encapsulate_extended(frames)
        else:
            pixels = encapsulate(frames, has_bot=table == "basic")
        own.add_new("PixelData", "OB", pixels)
        own["PixelData"].is_undefined_length = True
        own.save_as(folder / f"level-{number}.dcm", enforce_file_format=True)
    return folder / "level-0.dcm"


def _place(index: int, columns: int, tile: int) -> Dataset:
    row, column = divmod(index, columns)
    position, group = Dataset(), Dataset()
    position.ColumnPositionInTotalImagePixelMatrix = 1 + column * tile
    position.RowPositionInTotalImagePixelMatrix = 1 + row * tile
    group.PlanePositionSlideSequence = [position]
    return group


# Leica

_SCN = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection sizeX="{0}" sizeY="{1}">{2}</collection></scn>"""
_IMAGE = """<image><device model="Leica SCN400"/><pixels>{2}</pixels>
<view sizeX="{0[0]}" sizeY="{0[1]}" offsetX="{1[0]}" offsetY="{1[1]}"/><scanSettings><objectiveSettings>
<objective>20</objective></objectiveSettings><illuminationSettings><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image>"""
NM_PER_PX = round(UM_PER_PX * 1000)


def write_scn(
    path: Path, levels: list[np.ndarray], *corners: tuple[int, int], size: tuple[int, int], tile: int = 128
) -> Path:
    """An SCN whose slide of that size has a scan of the levels at each corner, in level-0 pixels, and an overview."""
    overview = picture(400, 128)
    pages = [overview, *levels * len(corners)]
    whole = (size[0] * NM_PER_PX, size[1] * NM_PER_PX)
    images = [_image(whole, (0, 0), [overview], 0)]
    scan = (levels[0].shape[1] * NM_PER_PX, levels[0].shape[0] * NM_PER_PX)
    for i, (x, y) in enumerate(corners):
        images.append(_image(scan, (x * NM_PER_PX, y * NM_PER_PX), levels, 1 + i * len(levels)))
    description = _SCN.format(*whole, "".join(images))
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for i, page in enumerate(pages):
            tiff.write(
                page,
                tile=(tile, tile),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                description=description if i == 0 else None,
                metadata=None,
                resolution=(10_000 / UM_PER_PX * page.shape[1] / levels[0].shape[1],) * 2,
                resolutionunit="CENTIMETER",
            )
    return path


def _image(size: tuple[int, int], corner: tuple[int, int], levels: list[np.ndarray], first_page: int) -> str:
    dimensions = "".join(
        f'<dimension sizeX="{level.shape[1]}" sizeY="{level.shape[0]}" r="{i}" ifd="{first_page + i}"/>'
        for i, level in enumerate(levels)
    )
    return _IMAGE.format(size, corner, dimensions)

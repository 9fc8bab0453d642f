"""The folders of public data sets, as their authors publish them, read as labelled images.

Copies differ in outer folders, in the case of names and in file formats, so images are searched for below the folder
given and known by the name of the folder that they lie in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.datasets.bccd import read_bccd
from wbc_cli.datasets.krd import read_krd
from wbc_cli.datasets.rvpbs import read_rvpbs
from wbc_cli.datasets.single_cells import read_allidb2, read_lisc, read_pbc, read_raabin
from wbc_cli.errors import UsageError
from wbc_cli.manifest import Sample

__all__ = ["read_dataset"]


@dataclass(frozen=True)
class _Dataset:
    """A published data set: how it is read, and what its folder is expected to hold."""

    read: Callable[[Path], Iterator[Sample]]
    expected: str


_DATASETS = {
    "bccd": _Dataset(read_bccd, "JPEGImages/*.jpg, with Annotations and ImageSets beside that folder"),
    "lisc": _Dataset(read_lisc, "Main Dataset/Baso, eosi, lymp, mono, neut with images"),
    "allidb2": _Dataset(read_allidb2, "img/Im001_1.tif and so on, _1 for a blast and _0 for another cell"),
    "pbc": _Dataset(read_pbc, "basophil, eosinophil, ..., platelet with images"),
    "raabin": _Dataset(read_raabin, "Train, TestA, TestB or GrTh/Original, with Basophil, ..., Neutrophil below"),
    "krd": _Dataset(read_krd, 'image/image1.jpg and so on, with mask beside that folder and "class labels.csv"'),
    "rvpbs": _Dataset(read_rvpbs, "BAND CELLS, BASOPHILS, ... with images and annotations.xml"),
}


def read_dataset(name: str, folder: Path) -> tuple[Sample, ...]:
    """Read a data set from the unpacked folder that its authors publish.

    The splits are the published ones (BCCD, Raabin); where there are none every image is of the split "test". An
    image of BCCD that no list names, or an image of which nothing is known, is of the split "drop".

    Args:
        name: one of `bccd`, `lisc`, `allidb2`, `pbc`, `raabin`, `krd`, `rvpbs`.
        folder: the set's folder, or one around it.

    Raises:
        UsageError: an unknown name, a folder that holds no such set, or a file of it that cannot be read.
    """
    dataset = _DATASETS.get(name)
    if dataset is None:
        raise UsageError(f"--layout {name}: use one of {', '.join(_DATASETS)}")
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; with --layout {name} give the data set's unpacked folder")
    samples = tuple(dataset.read(folder.absolute()))  # so that "." has a name, too
    if not samples:
        raise UsageError(f"{folder}: holds no {name} as published; looked for {dataset.expected}")
    return samples

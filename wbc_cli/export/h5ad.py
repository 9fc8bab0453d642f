"""AnnData: cells with their figures and positions, as scanpy and squidpy take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_cli.csv_files.formulas import unescape_formula
from wbc_cli.errors import UsageError
from wbc_cli.export.columns import type_of
from wbc_cli.export.library import load
from wbc_cli.export.results import REVIEW_COLUMNS, Results
from wbc_cli.products.features import read_features
from wbc_cli.products.registry import FEATURES
from wbc_cli.products.slide_folders import CELLS

_PLACE = ("x", "y")


def write_h5ad(results: Results, path: Path) -> None:
    """Write one file with all cells of a run.

    X is float32 [cells, figures], NaN where a figure was not measured; obs has the other columns of cells.csv and what
    reviewers say; obsm has the centroids, "spatial" in level-0 pixels and "spatial_um" in micrometres, float64
    [cells, 2], and "features", float16 [cells, width], where the run has kept them of every cell.

    Args:
        results: of a run.
        path: of the file.

    Raises:
        SetupError: anndata is not installed.
        UsageError: the table of cells does not hold what its columns promise.
        OSError: the disk is full or read-only.
    """
    anndata = load("anndata", "anndata")
    table = _read_cells(results.folder / CELLS)
    figures = [column for column in table if type_of(column) == "float64" and column not in _PLACE]
    said = pd.DataFrame(results.said_of(table["slide"], table["cell"].astype(str)), columns=REVIEW_COLUMNS)
    scales = {name: _pixel_um(results, name) for name in table["slide"].unique()}
    pixel_um = np.array([scales[name] for name in table["slide"]], np.float64).reshape(-1, 2)
    obs = table.drop(columns=[*figures, *_PLACE]).join(said)
    obs["slide"] = obs["slide"].map(unescape_formula)
    obs.index = obs["slide"] + ":" + obs["cell"].astype(str)
    obs.index.name = None
    texts = [column for column in obs if type_of(column) == "string"]
    obs[texts] = obs[texts].astype("category")
    place = table[list(_PLACE)].to_numpy(np.float64)
    features = _features(results, table)
    anndata.AnnData(
        X=table[figures].to_numpy(np.float32),
        obs=obs,
        var=pd.DataFrame(index=figures),
        obsm={"spatial": place, "spatial_um": place * pixel_um, **features},
        uns={"wbc_cli": _origin(results)},
    ).write_h5ad(path)


def _read_cells(path: Path) -> pd.DataFrame:
    try:
        header = pd.read_csv(path, nrows=0, encoding="utf-8").columns
        types = {column: "object" if type_of(column) == "string" else type_of(column) for column in header}
        texts = {column: "" for column, kind in types.items() if kind == "object"}
        numbers = {column: [""] for column in header if column not in texts}
        table = pd.read_csv(path, dtype=types, encoding="utf-8", keep_default_na=False, na_values=numbers)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: does not hold what its columns promise ({error}); analyse again") from error
    return table


def _pixel_um(results: Results, written: str) -> tuple[float, float]:
    slide = results.cells.slide_named(written)
    if slide is None:
        raise UsageError(f"{results.folder / CELLS}: has cells of {written}, which run.json does not; analyse again")
    across, down = results.records[slide]["pixel_um"]
    return across, down


def _features(results: Results, table: pd.DataFrame) -> dict[str, NDArray[np.float16]]:
    """Read the features that the types were read from, where the run has kept them of every cell."""
    kept = []
    for written, cells in table.groupby("slide", sort=False)["cell"]:
        slide = results.cells.slide_named(written)
        rows = read_features(results.cells.tables[slide].with_name(FEATURES)) if slide else None
        if rows is None or len(rows) < cells.max():
            return {}
        kept.append(rows[cells.to_numpy() - 1])
    return {"features": np.concatenate(kept)} if kept else {}


def _origin(results: Results) -> dict[str, Any]:
    """Describe what made the cells: of merged runs there may be several weights."""
    runs = results.run.get("merged_from", [results.run])
    weights = dict.fromkeys(str(run["weights_sha256"]) for run in runs if "weights_sha256" in run)
    return {"version": str(results.run.get("version", "")), "weights_sha256": list(weights)}

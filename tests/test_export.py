"""Results for other systems: read back as they were, with stable types; reports that FHIR takes."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import NO_PRODUCTS, blank, committed, disc, make_cell, make_result, rows
from fhir.resources.R4B.bundle import Bundle
from report_runs import RUN, make_small_run, some_cells
from test_review import corrections, make_run, review

from wbc_cli.classes import BY_NAME, CLASS_NAMES
from wbc_cli.export.loinc import CODES
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.overlap import OVERLAP_COLUMNS
from wbc_cli.products.report.words import SLIDE_FLAGS, in_words
from wbc_cli.products.tables import CELL_COLUMNS, DIFFERENTIAL_COLUMNS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Slides of every fate, one of which two reviewers have seen."""
    folder = RunFolder(make_small_run(tmp_path_factory.mktemp("run")))
    folder.write_tables(committed(folder))
    folder.write_run(RUN, committed(folder))
    places = tmp_path_factory.mktemp("corrections")
    review(folder, corrections(places, "monday,1,blast", "monday,2,monocyte"), reviewer="Ann")
    review(folder, corrections(places, "monday,2,basophil"), reviewer="Bob", sign=["monday"])
    return folder


def export(call, run, kind, out):
    answer = call("export", run.out, "--format", kind, "-o", out)
    assert answer.code == 0, answer.err
    return out


def plain(rows):
    """Rows as they are without what keeps spreadsheets from taking names for formulas."""
    return [{**row, "slide": row["slide"].removeprefix("'")} for row in rows]


def test_parquet_is_read_back_equal_to_the_tables(run, call, tmp_path):
    out = export(call, run, "parquet", tmp_path / "tables")
    for name, file in (("cells.csv", "cells.parquet"), ("differential.csv", "slides.parquet")):
        expected = plain(rows(run.out / name))
        found = pq.read_table(out / file).to_pylist()
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            for column, text in other.items():
                value = one[column]
                same = (
                    value == (float(text) if text else None)
                    if isinstance(value, int | float)
                    else (value or "") == text
                )
                assert same, (file, column, value, text)
    assert {p.name for p in out.iterdir()} == {
        "cells.parquet", "slides.parquet", "slides-reviewed.parquet", "reviewers.parquet",
    }  # fmt: skip


def test_parquet_has_the_same_types_whatever_the_rows_hold(run, call, tmp_path):
    empty = RunFolder(tmp_path / "empty")
    empty.commit(make_result([], 300, 200, "nothing"), blank(), NO_PRODUCTS)
    empty.write_tables(committed(empty))
    empty.write_run(RUN, committed(empty))
    full = export(call, run, "parquet", tmp_path / "full")
    none = export(call, empty, "parquet", tmp_path / "none")
    for file in ("cells.parquet", "slides.parquet"):
        assert pq.read_schema(full / file) == pq.read_schema(none / file)
    schema = pq.read_schema(full / "cells.parquet")
    assert schema.names == [*CELL_COLUMNS, "reviewed_class", "reviewer", "reviewed_at"]
    expected = {"slide": pa.string(), "cell": pa.int64(), "x": pa.float64(), "x0": pa.int64(), "p_blast": pa.float64()}
    assert {name: schema.field(name).type for name in expected} == expected
    assert schema.field("nucleus_area_um2").type == schema.field("cam_stability").type == pa.float64()
    schema = pq.read_schema(full / "slides.parquet")
    assert schema.names == list(DIFFERENTIAL_COLUMNS)
    assert schema.field("blast_count").type == schema.field("cells").type == pa.int64()
    assert schema.field("um_per_px").type == schema.field("monocyte_low").type == pa.float64()
    assert schema.field("flags").type == schema.field("um_per_px_source").type == pa.string()


def test_a_run_with_samples_has_a_typed_table_of_overlaps_where_none_overlap(call, tmp_path):
    run = with_samples(tmp_path, {"a": "anna", "b": "bert"})
    table = pq.read_table(export(call, run, "parquet", tmp_path / "out") / "overlaps.parquet")
    assert table.num_rows == 0
    types = (pa.string(), pa.int64(), pa.string(), pa.int64())
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == dict(
        zip(OVERLAP_COLUMNS, types, strict=True)
    )


def test_parquet_says_what_reviewers_said(run, call, tmp_path):
    cells = pq.read_table(export(call, run, "parquet", tmp_path / "out") / "cells.parquet").to_pylist()
    of = {(cell["slide"], cell["cell"]): cell for cell in cells}
    assert of["monday", 1]["reviewed_class"] == "blast"
    assert (of["monday", 2]["reviewed_class"], of["monday", 2]["reviewer"]) == ("basophil", "Bob")
    assert of["monday", 2]["reviewed_at"] == "2026-01-31T08:15:00Z"
    assert (of["monday", 3]["reviewed_class"], of["monday", 3]["reviewer"]) == (of["monday", 3]["class"], None)
    assert {cell["reviewed_class"] for cell in cells if cell["slide"] != "monday"} == {None}


def test_anndata_is_read_back_equal_to_cells_csv_with_positions(run, call, tmp_path):
    data = anndata.read_h5ad(export(call, run, "anndata", tmp_path / "cells.h5ad"))
    expected = plain(rows(run.out / "cells.csv"))
    assert data.n_obs == len(expected)
    assert list(data.obs_names) == [f"{row['slide']}:{row['cell']}" for row in expected]
    assert list(data.var_names) == [
        *(f"p_{name}" for name in CLASS_NAMES),
        *("confidence", "area_um2", "nucleus_area_um2", "saliency", "cam_in_cell", "cam_saliency", "cam_stability"),
    ]
    figures = [[float(row[name] or "nan") for name in data.var_names] for row in expected]
    np.testing.assert_array_equal(data.X, np.array(figures, np.float32))
    place = np.array([[float(row["x"]), float(row["y"])] for row in expected])
    np.testing.assert_array_equal(data.obsm["spatial"], place)
    np.testing.assert_allclose(data.obsm["spatial_um"], place * 0.1)
    for column in ("slide", "class", "flags"):
        assert list(data.obs[column]) == [row[column] for row in expected]
    assert list(data.obs["x1"]) == [int(row["x1"]) for row in expected]
    assert data.obs["reviewed_class"]["monday:1"] == "blast"
    assert pd.isna(data.obs["reviewed_class"]["refused:1"])
    assert list(data.uns["wbc_cli"]["weights_sha256"]) == [RUN["weights_sha256"]]


def bundles(folder):
    """The resources of each bundle by their type and text, by the sample's name."""
    found = {}
    for file in folder.glob("*.json"):
        bundle = json.loads(file.read_text())
        Bundle.model_validate(bundle)
        resources = [entry["resource"] for entry in bundle["entry"]]
        (specimen,) = (r for r in resources if r["resourceType"] == "Specimen")
        found[specimen["identifier"][0]["value"]] = bundle
    return found


def parts(bundle, kind):
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def test_fhir_has_a_preliminary_report_a_slide_with_loinc_codes_device_and_version(run, call, tmp_path):
    found = bundles(export(call, run, "fhir", tmp_path / "fhir"))
    assert set(found) == {record["name"] for record in committed(run)}
    bundle = found["=cmd.png"]
    (report,) = parts(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["code"]["coding"][0] == {
        "system": "http://loinc.org", "code": "24318-8", "display": "Manual Differential panel - Blood",
    }  # fmt: skip
    assert "Not a diagnosis" in report["conclusion"]
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    references = [r["reference"] for r in (*report["result"], *report["specimen"])]
    observations = parts(bundle, "Observation")
    references += [o[key]["reference"] for o in observations for key in ("device", "specimen")]
    assert set(references) <= urls
    assert len(report["result"]) == len(observations) == len(BY_NAME) - 1
    codes = {o["code"]["coding"][0]["code"] for o in observations if "coding" in o["code"]}
    assert codes == {code for code, _ in CODES.values()}
    (device,) = parts(bundle, "Device")
    assert [v["value"] for v in device["version"]] == [RUN["version"], RUN["weights_sha256"]]


def test_fhir_percentages_are_of_all_white_cells_with_a_type(tmp_path, call):
    kinds = ["neutrophil"] * 5 + ["monocyte"] * 3 + ["blast"] * 2 + ["unidentified"] + ["erythroblast"] + ["platelet"]
    cells = [make_cell(i + 1, disc(20), 20 * i, 20, kind) for i, kind in enumerate(kinds)]
    run = RunFolder(tmp_path / "run")
    run.commit(make_result(cells, 300, 200, "a"), blank(), NO_PRODUCTS)
    run.write_tables(committed(run))
    run.write_run(RUN, committed(run))
    (bundle,) = bundles(export(call, run, "fhir", tmp_path / "fhir")).values()
    of = {o["code"]["text"]: o for o in parts(bundle, "Observation")}
    values = {name: o["valueQuantity"]["value"] for name, o in of.items()}
    assert (values["Neutrophil"], values["Monocyte"], values["Blast (suspect)"]) == (50, 30, 20)
    assert (values["Unidentified"], values["Erythroblast"]) == (9.09, 9.09)
    low_high = of["Neutrophil"]["component"][2]["valueRange"]
    assert (low_high["low"]["value"], low_high["high"]["value"]) == (18.71, 81.29)  # of 5 in 10, Clopper-Pearson
    assert of["Erythroblast"]["valueQuantity"]["code"] == "/100{WBCs}"


def test_fhir_reports_what_reviewers_said_and_who(run, call, tmp_path):
    bundle = bundles(export(call, run, "fhir", tmp_path / "fhir"))["monday"]
    (report,) = parts(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert [who["display"] for who in report["resultsInterpreter"]] == ["Ann", "Bob"]
    assert "The reviewers differ on 2 cells" in report["conclusion"]
    assert "Signed by Bob (2026-01-31T08:15:00Z)" in report["conclusion"]
    found = Counter(row["class"] for row in rows(run.out / "cells.csv") if row["slide"] == "monday")
    first, second = (next(r["class"] for r in rows(run.out / "cells.csv") if r["cell"] == c) for c in ("1", "2"))
    expected = found - Counter([first, second]) + Counter(["blast", "basophil"])
    for observation in parts(bundle, "Observation"):
        (kind,) = (k.name for k in BY_NAME.values() if k.label == observation["code"]["text"])
        assert observation["component"][0]["valueInteger"] == expected[kind]


def test_fhir_gives_no_figures_of_a_slide_that_was_refused_or_failed_but_says_why(run, call, tmp_path):
    found = bundles(export(call, run, "fhir", tmp_path / "fhir"))
    for name, why in (("refused", "out of focus"), ("bad", "cut off")):
        (report,) = parts(found[name], "DiagnosticReport")
        assert report["status"] == "cancelled"
        assert why in report["conclusion"]
        assert "result" not in report and parts(found[name], "Observation") == []


def with_samples(tmp_path, names):
    """A run whose slides belong to samples, with the table that says what these come to."""
    run = RunFolder(tmp_path / "run")
    for slide, sample in names.items():
        made = {"sample": {"name": sample, "folder": ""}}
        run.commit(make_result(some_cells(20), 300, 200, slide), blank(), NO_PRODUCTS, made)
    run.write_tables(committed(run))
    run.write_run(RUN, committed(run))
    return run


def test_where_there_are_samples_each_has_a_report_with_the_reviews_of_its_fields(tmp_path, call):
    run = with_samples(tmp_path, {"a": "anna", "b": "anna", "c": "bert"})
    review(run, corrections(tmp_path, "b,1,blast"), reviewer="Ann")
    assert pq.read_table(export(call, run, "parquet", tmp_path / "p") / "samples.parquet")["fields"].to_pylist() == [
        2,
        1,
    ]
    found = bundles(export(call, run, "fhir", tmp_path / "fhir"))
    assert set(found) == {"anna", "bert"}
    blasts = {
        name: next(o for o in parts(bundle, "Observation") if o["code"]["text"].startswith("Blast"))["component"][0]
        for name, bundle in found.items()
    }
    assert (blasts["anna"]["valueInteger"], blasts["bert"]["valueInteger"]) == (5, 2)


def test_fhir_names_the_doubts_of_a_samples_fields_and_how_many_were_left_out(tmp_path, call):
    run = RunFolder(tmp_path / "run")
    sample = {"sample": {"name": "anna", "folder": ""}}
    flags_of = {"a": ("blurred", "scale_pooled"), "b": ("scale_pooled",), "c": ()}
    for name, flags in flags_of.items():
        run.commit(make_result(some_cells(20), 300, 200, name, flags=flags), blank(), NO_PRODUCTS, sample)
    refused = replace(make_result(some_cells(20), 300, 200, "d", flags=("dark",)), refusal="too dark")
    run.commit(refused, blank(), NO_PRODUCTS, sample)
    run.record_failure("e", tmp_path / "e.png", "cut off", sample)
    run.write_tables(committed(run))
    run.write_run(RUN, committed(run))
    (bundle,) = bundles(export(call, run, "fhir", tmp_path / "fhir")).values()
    (report,) = parts(bundle, "DiagnosticReport")
    assert "fewer than 100 cells" in report["conclusion"]
    for flag, number in (("blurred", 1), ("scale_pooled", 2)):
        assert f"{in_words(flag, SLIDE_FLAGS)} ({number} of 3 fields)" in report["conclusion"]
    assert in_words("dark", SLIDE_FLAGS) not in report["conclusion"]
    assert "2 of 5 fields" in report["conclusion"]


def test_a_table_of_other_samples_than_the_slides_is_refused(tmp_path, call):
    run = with_samples(tmp_path, {"a": "anna"})
    text = (run.out / "samples.csv").read_text()
    (run.out / "samples.csv").write_text(text.replace("anna", "bert"))
    answer = call("export", run.out, "--format", "fhir", "-o", tmp_path / "fhir")
    assert answer.code == 2
    assert "has other samples than the slides" in " ".join(answer.err.split())
    assert not (tmp_path / "fhir").exists()


def test_anndata_has_the_features_that_the_run_has_kept(tmp_path, call):
    run = RunFolder(tmp_path / "run")
    for name, shift in (("b", 0), ("a", 100)):
        cells = some_cells(5)
        cells = [replace(cell, features=np.full(3, cell.id + shift, np.float16)) for cell in cells]
        run.commit(make_result(cells, 300, 200, name), blank(), frozenset({"features"}))
    run.write_tables(committed(run))
    run.write_run(RUN, committed(run))
    data = anndata.read_h5ad(export(call, run, "anndata", tmp_path / "cells.h5ad"))
    expected = [
        cell + (100 if slide == "a" else 0) for slide, cell in zip(data.obs["slide"], data.obs["cell"], strict=True)
    ]
    assert data.obsm["features"][:, 2].tolist() == expected
    run.commit(make_result(some_cells(5), 300, 200, "a"), blank(), NO_PRODUCTS)
    run.write_tables(committed(run))
    assert "features" not in anndata.read_h5ad(export(call, run, "anndata", tmp_path / "cells.h5ad")).obsm


@pytest.mark.parametrize(
    ("kind", "library"), [("parquet", "pyarrow"), ("anndata", "anndata"), ("fhir", "fhir.resources.R4B.bundle")]
)
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    run, call, tmp_path, monkeypatch, kind, library
):
    monkeypatch.setitem(sys.modules, library, None)
    answer = call("export", run.out, "--format", kind, "-o", tmp_path / "out")
    assert answer.code == 5
    assert "pip install 'wbc-cli[export]'" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_or_not_whole_is_refused_and_so_is_one_that_is_taken(call, tmp_path):
    run = make_run(tmp_path / "run", "a")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("keep me")
    cases = [(tmp_path, "out", "holds no finished run"), (run.out, "taken", "is there already")]
    for folder, out, why in cases:
        answer = call("export", folder, "--format", "parquet", "-o", tmp_path / out)
        assert answer.code == 2
        assert why in answer.err
    assert (taken / "notes.txt").read_text() == "keep me"
    (run.out / "cells.csv").unlink()
    answer = call("export", run.out, "--format", "anndata", "-o", tmp_path / "cells.h5ad")
    assert answer.code == 2
    assert "cells.csv" in answer.err
    assert not (tmp_path / "cells.h5ad").exists()


def test_a_damaged_log_of_reviews_stops_the_export(call, tmp_path):
    run = make_run(tmp_path / "run", "a")
    review(run, corrections(tmp_path, "a,1,blast"))
    log = run.out / "review-log.jsonl"
    log.write_text(log.read_text().replace("blast", "monocyte"))
    answer = call("export", run.out, "--format", "fhir", "-o", tmp_path / "out")
    assert answer.code == 2
    assert "review-log.jsonl" in answer.err

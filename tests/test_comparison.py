"""A laboratory compares a run with its own counts, or with its readers' types of the same cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
from evidence_runs import USUAL, confused, counted, record, write_comparison, write_reference, write_run
from fakes import rows

from wbc_cli.classes import DIFFERENTIAL_NAMES


@pytest.fixture
def compared(call, tmp_path):
    """Compare a run with a reference; the figures by (tested, of, figure)."""

    def run(folder, reference, *options):
        answer = call("compare", folder, reference, "-o", tmp_path / "out", *options)
        if answer.code:
            return answer, {}, {}
        figures = {(row["tested"], row["of"], row["figure"]): row for row in rows(tmp_path / "out" / "comparison.csv")}
        return answer, figures, json.loads((tmp_path / "out" / "comparison.json").read_text())

    return run


def by_cell(random, slides=3, cells=150, readers=("ann",)):
    """Rows of a run's cells.csv, and of a reference by readers who agree with the tool in four of five cells."""
    found, said = [], []
    for slide in range(slides):
        for number, (truth, tool) in enumerate(confused(random, cells), 1):
            found.append((f"{slide}.png", number, tool))
            said += [(f"{slide}.png", number, truth, reader) for reader in readers]
    return found, said


def as_run(folder, cells):
    slides = sorted({slide for slide, _, _ in cells})
    counts = [{kind: sum(c[0] == s and c[2] == kind for c in cells) for kind in DIFFERENTIAL_NAMES} for s in slides]
    return write_run(folder, [record(s, of) for s, of in zip(slides, counts, strict=True)], cells)


# --- counts


def test_methods_that_differ_by_chance_alone_are_found_to_agree(compared, tmp_path):
    answer, figures, page = compared(*write_comparison(tmp_path))
    assert answer.code == 0
    assert "samples compared: 60" in answer.err
    for name in DIFFERENTIAL_NAMES[:1] + DIFFERENTIAL_NAMES[3:]:
        bias = figures["wbc-cli", name, "bias"]
        assert float(bias["low"]) < 0 < float(bias["high"])
        slope = figures["wbc-cli", name, "slope"]
        assert float(slope["low"]) < 1 < float(slope["high"])
        assert float(figures["wbc-cli", name, "within_limits"]["value"]) > 90
        assert float(figures["wbc-cli", name, "r"]["value"]) > 0.85
    assert [(pair["reference"], pair["tested"]) for pair in page["pairs"]] == [
        ("all readers", "wbc-cli"),
        ("ann", "bob"),
    ]
    assert float(figures["bob", "neutrophil", "within_limits"]["value"]) > 90  # the ceiling


def test_a_tool_that_takes_lymphocytes_for_monocytes_is_found_out(compared, tmp_path):
    random = np.random.default_rng(0)
    shares = [np.array(USUAL) for _ in range(50)]
    tool = []
    for i in range(50):
        counts = counted(random, shares[i])
        tool.append(record(f"{i}.png", counts | {"lymphocyte": counts["lymphocyte"] - 20, "monocyte": 36}))
    lines = [(f"{i}.png", "ann", kind, n) for i in range(50) for kind, n in counted(random, shares[i], 400).items()]
    _, figures, _ = compared(write_run(tmp_path / "run", tool), write_reference(tmp_path / "r.csv", lines))
    assert float(figures["wbc-cli", "monocyte", "bias"]["low"]) > 5
    assert float(figures["wbc-cli", "lymphocyte", "bias"]["high"]) < -5
    assert float(figures["wbc-cli", "monocyte", "within_limits"]["value"]) < 30
    assert float(figures["wbc-cli", "neutrophil", "within_limits"]["value"]) > 70


def test_abnormal_samples_are_told_by_limits_that_a_laboratory_can_set(compared, tmp_path):
    healthy = {"neutrophil": 120, "eosinophil": 6, "basophil": 2, "lymphocyte": 60, "monocyte": 12}
    leukaemia = healthy | {"blast": 40}
    eosinophilia = healthy | {"neutrophil": 80, "eosinophil": 46}
    truth = [healthy] * 20 + [leukaemia] * 12 + [eosinophilia] * 12
    told = [healthy] * 19 + [leukaemia] * 10 + [healthy] * 3 + [eosinophilia] * 12
    run = write_run(tmp_path / "run", [record(f"{i}.png", counts) for i, counts in enumerate(told)])
    lines = [(i, "ann", kind, n) for i, counts in enumerate(truth) for kind, n in counts.items()]
    reference = write_reference(tmp_path / "r.csv", lines)
    _, _, page = compared(run, reference)
    found = {kind["kind"]: kind for kind in page["pairs"][0]["abnormal"]}
    blasts = found["morphology"]
    assert [blasts[key] for key in ("both", "missed", "false_alarms", "neither")] == [9, 3, 1, 31]
    assert blasts["sensitivity"]["value"] == pytest.approx(9 / 12)
    assert blasts["specificity"]["value"] == pytest.approx(31 / 32)
    assert blasts["efficiency"]["value"] == pytest.approx(40 / 44)
    assert [found["distribution"][key] for key in ("both", "missed", "false_alarms", "neither")] == [12, 0, 0, 32]
    assert found["either"]["both"] == 21
    _, _, page = compared(run, reference, "--limit", "eosinophil=:30", "--limit", "neutrophil=40:")
    found = {kind["kind"]: kind for kind in page["pairs"][0]["abnormal"]}
    assert found["distribution"]["neither"] == 44
    assert page["limits"]["neutrophil"] == {"low": 40, "high": None}


def test_the_samples_of_samples_csv_are_compared_where_a_run_has_it(compared, tmp_path):
    run, reference = write_comparison(tmp_path)
    table = (run / "differential.csv").read_text().replace(".png,", ",").replace("slide,", "sample,", 1)
    (run / "samples.csv").write_text(table)
    (run / "differential.csv").write_text("slide,status\n")
    answer, _, page = compared(run, reference)
    assert "samples compared: 60" in answer.err
    assert page["results"].endswith("samples.csv")


@pytest.mark.parametrize(
    ("encoding", "separator"), [("utf-16", "\t"), ("cp1252", ";"), ("utf-8-sig", ","), ("utf-8", ";")]
)
def test_a_table_that_excel_has_saved_is_taken(compared, tmp_path, encoding, separator):
    counts = {"neutrophil": 120, "eosinophil": 6, "basophil": 2, "lymphocyte": 60, "monocyte": 12}
    run = write_run(tmp_path / "run", [record("größe 1.png", counts)])
    lines = ["sample,reader,class,count", *(f"größe 1,Jörg,{kind.title()}s,{n}" for kind, n in counts.items()), ",,,"]
    text = "\r\n".join(line.replace(",", separator) for line in lines)
    (tmp_path / "r.csv").write_bytes(text.encode(encoding))
    answer, figures, page = compared(run, tmp_path / "r.csv")
    assert answer.code == 0
    assert page["pairs"][0]["reference"] == "Jörg"
    assert page["pairs"][0]["samples"] == 1
    assert figures["wbc-cli", "neutrophil", "within_limits"]["value"] == "100.0000"
    assert "1 samples; regression and limits of agreement need 40 or more" in answer.err


def test_an_apostrophe_is_a_samples_own_unless_it_guards_a_formula(compared, tmp_path):
    counts = {"neutrophil": 120, "lymphocyte": 60}
    run = write_run(tmp_path / "run", [record(f"{name}.png", counts) for name in ("'s-Gravenhage", "=1")])
    lines = [(name, "ann", kind, n) for name in ("'s-Gravenhage", "'=1") for kind, n in counts.items()]
    _, _, page = compared(run, write_reference(tmp_path / "r.csv", lines))
    assert page["missing"] == {}
    assert page["pairs"][0]["samples"] == 2


def test_what_is_not_compared_is_said_and_nothing_is_left_out_in_silence(compared, tmp_path):
    counts = {"neutrophil": 120, "lymphocyte": 60}
    bad = record("bad.png", counts, status="refused", reason="out of focus")
    run = write_run(tmp_path / "run", [record("good.png", counts), bad])
    lines = [(name, "ann", kind, n) for name in ("good", "bad", "lost") for kind, n in counts.items()]
    answer, _, page = compared(run, write_reference(tmp_path / "r.csv", lines))
    assert page["missing"] == {"bad": "refused: out of focus", "lost": "not in the results"}
    assert "not compared: bad: refused: out of focus" in answer.err
    assert "2 of the reference's samples are not compared" in " ".join(
        (tmp_path / "out" / "comparison.html").read_text().split()
    )


def test_a_sample_in_which_the_tool_found_nothing_is_told_of(compared, tmp_path):
    counts = {"neutrophil": 120, "lymphocyte": 80}
    run = write_run(tmp_path / "run", [record("a.png", counts), record("b.png", {})])
    lines = [(name, "ann", kind, n) for name in "ab" for kind, n in counts.items()]
    answer, figures, _ = compared(run, write_reference(tmp_path / "r.csv", lines))
    assert "in 1 samples one side has no cell of the differential" in answer.err
    assert figures["wbc-cli", "neutrophil", "within_limits"]["n"] == "1"


def test_too_few_cells_or_samples_for_a_figure_are_warned_of(compared, tmp_path):
    counts = {"neutrophil": 60, "lymphocyte": 30}
    run = write_run(tmp_path / "run", [record(f"{i}.png", counts) for i in range(8)])
    lines = [(i, "ann", kind, 4 * n) for i in range(8) for kind, n in counts.items()]
    answer, figures, _ = compared(run, write_reference(tmp_path / "r.csv", lines))
    assert "8 samples; regression and limits of agreement need 40 or more" in answer.err
    assert "wbc-cli counted fewer than 200 cells in 8 of 8 samples" in answer.err
    assert "counted 0.25 times as many cells as the readers" in answer.err
    assert "too few cells, or samples, with" in answer.err
    assert ("wbc-cli", "eosinophil", "slope") not in figures


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["s000,ann,neutrofil,3"], "line 2: no class 'neutrofil'"),
        (["s000,ann,blast,3", "s000,ann,blasts,3"], "line 3: counts blast of s000 a second time"),
        (["s000,ann,blast,3.5"], "line 2: '3.5' is no count"),
        (["s000,ann,blast,60 %"], "line 2: '60 %' is no count"),
        (["other,ann,blast,3"], "names no sample of"),
        ([], "has no rows"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused_with_its_line(compared, tmp_path, lines, why):
    run, _ = write_comparison(tmp_path, samples=3)
    reference = tmp_path / "wrong.csv"
    reference.write_text("\n".join(["sample,reader,class,count", *lines, ""]))
    answer, _, _ = compared(run, reference)
    assert answer.code == 2
    assert why in " ".join(answer.err.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--limit", "monocyte=12"), "--limit monocyte=12: give CLASS=LOW:HIGH"),
        (("--limit", "monozyt=2:12"), "with a class of neutrophil"),
        (("--limit", "monocyte=a:b"), "LOW and HIGH are percentages"),
    ],
)
def test_limits_that_are_none_are_refused(compared, tmp_path, arguments, why):
    answer, _, _ = compared(*write_comparison(tmp_path, samples=3), *arguments)
    assert answer.code == 2
    assert why in " ".join(answer.err.split())


def test_a_folder_without_results_is_refused(compared, tmp_path):
    _, reference = write_comparison(tmp_path, samples=3)
    answer, _, _ = compared(tmp_path, reference)
    assert answer.code == 2
    assert "holds no results" in answer.err


# --- cells


def test_cells_that_readers_have_typed_give_confusion_kappa_and_sensitivity(compared, tmp_path):
    found, said = by_cell(np.random.default_rng(0))
    run = as_run(tmp_path / "run", found)
    reference = write_reference(tmp_path / "r.csv", said, "slide,cell,class,reader")
    answer, figures, page = compared(run, reference)
    assert answer.code == 0
    kappa = figures["wbc-cli", "cells", "kappa"]
    assert float(kappa["low"]) < 0.8 < float(kappa["high"])
    assert kappa["n"] == "450"
    cells = page["pairs"][0]["cells"]
    right = sum(a[2] == b[2] for a, b in zip(found, said, strict=True))
    assert sum(cells["confusion"][i][i] for i in range(len(cells["classes"]))) == right
    assert cells["agreement"]["value"] == pytest.approx(right / 450)
    neutrophils = [b[2] for b, a in zip(found, said, strict=True) if a[2] == "neutrophil"]
    assert cells["sensitivity"]["neutrophil"]["value"] == pytest.approx(
        neutrophils.count("neutrophil") / len(neutrophils)
    )
    # the same cells by both: no chance of which were counted, so no limits of chance
    assert not any(figure == "within_limits" for _, _, figure in figures)
    assert "what it missed is in no figure" in answer.err


def test_several_readers_are_each_compared_with_the_tool_and_with_each_other(compared, tmp_path):
    found, said = by_cell(np.random.default_rng(0), readers=("ann", "bob"))
    reference = write_reference(tmp_path / "r.csv", said, "slide,cell,class,reader")
    _, figures, page = compared(as_run(tmp_path / "run", found), reference)
    pairs = {(pair["reference"], pair["tested"]): pair["cells"] for pair in page["pairs"]}
    assert set(pairs) == {("all readers", "wbc-cli"), ("ann", "wbc-cli"), ("bob", "wbc-cli"), ("ann", "bob")}
    assert pairs["ann", "bob"]["agreement"]["value"] == 1
    assert figures["bob", "cells", "kappa"]["value"] == "1.0000"
    assert figures["bob", "cells", "kappa"]["low"] == ""  # all agree: there is no interval


def test_corrections_of_the_report_count_what_they_do_not_name_as_right_and_the_page_says_so(compared, tmp_path):
    found, said = by_cell(np.random.default_rng(0))
    wrong = [line[:3] for line, cell in zip(said, found, strict=True) if line[2] != cell[2]]
    answer, figures, _ = compared(
        as_run(tmp_path / "run", found), write_reference(tmp_path / "r.csv", wrong, "slide,cell,class")
    )
    assert float(figures["wbc-cli", "cells", "agreement"]["value"]) == pytest.approx(
        100 * (1 - len(wrong) / 450), abs=1e-4
    )
    assert f"names {len(wrong) / 450:.0%} of the cells of its slides" in answer.err


def test_cells_of_a_refused_slide_are_not_compared(compared, tmp_path):
    found, said = by_cell(np.random.default_rng(0), slides=2)
    run = as_run(tmp_path / "run", found)
    table = (run / "cells.csv").read_text().splitlines()
    at = table[0].split(",").index("flags")
    for i, line in enumerate(table):
        cells = line.split(",")
        if cells[0] == "0.png":
            cells[at] = "edge;refused"
            table[i] = ",".join(cells)
    (run / "cells.csv").write_text("\n".join([*table, ""]))
    _, figures, page = compared(run, write_reference(tmp_path / "r.csv", said, "slide,cell,class,reader"))
    assert figures["wbc-cli", "cells", "kappa"]["n"] == "150"
    assert "0.png" in page["missing"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["0.png,999,blast"], "line 2: no cell '999' of slide '0.png'"),
        (["0.png,1,blast", "0.png,1,monocyte"], "line 3: says monocyte of a cell that was called blast before"),
    ],
)
def test_cells_that_do_not_fit_are_refused_with_their_line(compared, tmp_path, lines, why):
    found, _ = by_cell(np.random.default_rng(0), slides=1)
    reference = tmp_path / "r.csv"
    reference.write_text("\n".join(["slide,cell,class", *lines, ""]))
    answer, _, _ = compared(as_run(tmp_path / "run", found), reference)
    assert answer.code == 2
    assert why in " ".join(answer.err.split())

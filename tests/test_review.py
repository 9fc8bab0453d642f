"""A reviewer's corrections come back as a second differential beside the first."""

from __future__ import annotations

import csv

import pytest
from fakes import blank, small_result
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import UsageError
from wbc_cli.products.folder import RunFolder
from wbc_cli.review import ALL_SLIDES, cohens_kappa, read_review

CLASSES = st.sampled_from(CLASS_NAMES[:4])


@pytest.fixture
def run(tmp_path):
    """Two slides with a neutrophil (cell 1) and an unidentified cell (cell 2) each."""
    folder = RunFolder(tmp_path / "out")
    for name in ("a", "b"):
        folder.commit(small_result(name), blank(), frozenset())
    folder.write_tables([folder.record(name) for name in ("a", "b")])
    folder.write_run({}, [folder.record(name) for name in ("a", "b")])
    return folder


def corrections(tmp_path, *lines, header="slide,cell,class"):
    file = tmp_path / "corrections.csv"
    file.write_text("\n".join([header, *lines, ""]))
    return file


def reviewed(run):
    with (run.out / "differential-reviewed.csv").open(newline="") as file:
        return {row["slide"]: row for row in csv.DictReader(file)}


def test_both_differentials_stand_side_by_side_and_the_first_is_left_as_it_was(run, call, tmp_path):
    before = (run.out / "differential.csv").read_bytes()
    file = corrections(tmp_path, "a,2,eosinophil")
    answer = call("merge", run.out, "-o", run.out, "--review", file)
    assert answer.code == 0
    assert "reviewed slides: 1" in answer.err
    rows = reviewed(run)
    assert list(rows) == ["a", ALL_SLIDES]
    assert {row["differential"] for row in rows.values()} == {"reviewed"}
    row = rows["a"]
    assert (row["cells"], row["changed"]) == ("2", "1")
    assert (row["neutrophil_before_percent"], row["neutrophil_reviewed_percent"]) == ("100.00", "50.00")
    assert (row["eosinophil_before_count"], row["eosinophil_reviewed_count"]) == ("0", "1")
    assert (row["unidentified_before_count"], row["unidentified_reviewed_count"]) == ("1", "0")
    assert float(row["eosinophil_low"]) < 50 < float(row["eosinophil_high"])
    assert (run.out / "differential.csv").read_bytes() == before


def test_cells_that_are_not_mentioned_are_right_as_they_were(run, tmp_path):
    review = read_review([corrections(tmp_path, "b,1,neutrophil")], run.out / "cells.csv")
    assert review.before == review.after == {"b": ["neutrophil", "unidentified"]}
    assert review.kappa == 1


def test_of_one_slide_the_cell_number_is_enough(tmp_path):
    folder = RunFolder(tmp_path / "out")
    folder.commit(small_result("only"), blank(), frozenset())
    folder.write_tables([folder.record("only")])
    file = corrections(tmp_path, "2,basophil", header="cell,class")
    assert read_review([file], folder.out / "cells.csv").after == {"only": ["neutrophil", "basophil"]}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["a,9,basophil"], "line 2: no cell '9' of slide 'a'"),
        (["z,1,basophil"], "no cell '1' of slide 'z'"),
        (["a,1,basofil"], "no class 'basofil'"),
        (["a,1,basophil", "a,1,monocyte"], "line 3: says monocyte of a cell that was called basophil"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(run, call, tmp_path, lines, why):
    answer = call("merge", run.out, "-o", run.out, "--review", corrections(tmp_path, *lines))
    assert answer.code == 2
    assert why in " ".join(answer.err.split())


@pytest.mark.parametrize(
    "content",
    [
        b"slide;cell;class\r\na;2;eosinophil\r\n",
        b"\xef\xbb\xbfslide;cell;class\r\na;2;eosinophil\r\n;;\r\n",
        b"sep=;\r\nslide;cell;class\r\na;2;eosinophil\r\n",
        b"slide,cell,class\r\na,2,eosinophil\r\n,,\r\n\r\n",
        "slide\tcell\tclass\r\na\t2\teosinophil\r\n".encode("utf-16"),
    ],
)
def test_corrections_that_excel_has_saved_are_taken(run, tmp_path, content):
    file = tmp_path / "corrections.csv"
    file.write_bytes(content)
    assert read_review([file], run.out / "cells.csv").after == {"a": ["neutrophil", "eosinophil"]}


def test_a_slide_named_in_windows_1252_is_found_and_one_that_is_not_there_named_with_its_line(tmp_path):
    folder = RunFolder(tmp_path / "out")
    for name in ("größe", "b"):
        folder.commit(small_result(name), blank(), frozenset())
    folder.write_tables([folder.record(name) for name in ("größe", "b")])
    file = tmp_path / "corrections.csv"
    file.write_bytes("slide,cell,class\r\n,,\r\ngröße,1,basophil\r\n".encode("cp1252"))
    assert read_review([file], folder.out / "cells.csv").after == {"größe": ["basophil", "unidentified"]}
    file.write_bytes("slide,cell,class\r\n,,\r\nmüll,1,basophil\r\n".encode("cp1252"))
    with pytest.raises(UsageError, match="line 3: no cell '1' of slide 'müll'"):
        read_review([file], folder.out / "cells.csv")


def test_a_file_that_is_no_such_table_is_refused(run, tmp_path):
    for file in (corrections(tmp_path, header="a,b"), tmp_path / "gone.csv"):
        with pytest.raises(UsageError, match=str(file)):
            read_review([file], run.out / "cells.csv")


def test_kappa_is_that_of_the_textbook():
    # 50 cases, both yes 20, both no 15, apart 5 and 10: agreement 0.7, of which 0.5 by chance.
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)


@given(st.lists(st.tuples(CLASSES, CLASSES), max_size=40))
def test_kappa_is_symmetric_at_most_one_and_one_only_where_all_agree(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    kappa = cohens_kappa(first, second)
    assert (
        kappa == pytest.approx(cohens_kappa(second, first))
        if kappa is not None
        else cohens_kappa(second, first) is None
    )
    if kappa is not None:
        assert kappa <= 1 + 1e-12
        assert (kappa == pytest.approx(1)) == (first == second)

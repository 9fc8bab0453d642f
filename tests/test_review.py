"""A reviewer's corrections come back as a second differential beside the first, with who said what and when."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from fakes import blank, committed, disc, make_cell, rows, small_result
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import UsageError
from wbc_cli.products.folder import RunFolder
from wbc_cli.review.agreement import cohens_kappa
from wbc_cli.review.tables import ALL_SLIDES
from wbc_cli.run.merge import merge
from wbc_cli.run.reviews import NewReview

CLASSES = st.sampled_from(CLASS_NAMES[:4])
NOW = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)


def make_run(out, *names):
    """Slides with a neutrophil (cell 1) and an unidentified cell (cell 2) each."""
    folder = RunFolder(out)
    for name in names:
        folder.commit(small_result(name), blank(), frozenset())
    folder.write_tables(committed(folder))
    folder.write_run({}, committed(folder))
    return folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "out", "a", "b")


def corrections(tmp_path, *lines, header="slide,cell,class", name="corrections.csv"):
    file = tmp_path / name
    file.write_text("\n".join([header, *lines, ""]))
    return file


def review(run, *files, reviewer="Ann", sign=(), now=NOW):
    """Enter corrections in place."""
    merged = merge([run.out], run.out, NewReview(files, sign, reviewer), now)
    assert merged.review is not None
    return merged.review


def reviewed(run):
    return {row["slide"]: row for row in rows(run.out / "differential-reviewed.csv")}


def test_both_differentials_stand_side_by_side_and_the_first_is_left_as_it_was(run, call, tmp_path):
    before = (run.out / "differential.csv").read_bytes()
    file = corrections(tmp_path, "a,2,eosinophil")
    answer = call("merge", run.out, "-o", run.out, "--review", file, "--reviewer", "Ann")
    assert answer.code == 0
    assert "reviewed slides: 1" in answer.err
    table = reviewed(run)
    assert list(table) == ["a", ALL_SLIDES]
    assert {row["differential"] for row in table.values()} == {"reviewed"}
    row = table["a"]
    assert (row["cells"], row["changed"]) == ("2", "1")
    assert (row["neutrophil_before_percent"], row["neutrophil_reviewed_percent"]) == ("100.00", "50.00")
    assert (row["eosinophil_before_count"], row["eosinophil_reviewed_count"]) == ("0", "1")
    assert (row["unidentified_before_count"], row["unidentified_reviewed_count"]) == ("1", "0")
    assert float(row["eosinophil_low"]) < 50 < float(row["eosinophil_high"])
    assert (run.out / "differential.csv").read_bytes() == before


def test_it_says_by_whom_and_when(run, tmp_path):
    header = "slide,cell,class,reviewer,time"
    file = corrections(tmp_path, "a,2,eosinophil,Bob,2026-01-30T10:00:00+02:00", "b,1,basophil,,", header=header)
    review(run, file, reviewer="Ann")
    table = reviewed(run)
    assert (table["a"]["reviewers"], table["a"]["reviewed_at"]) == ("Bob", "2026-01-30T08:00:00Z")
    assert (table["b"]["reviewers"], table["b"]["reviewed_at"]) == ("Ann", "2026-01-31T08:15:00Z")
    assert table[ALL_SLIDES]["reviewers"] == "Bob; Ann"


def test_corrections_that_name_nobody_are_of_the_account_that_enters_them(run, call, tmp_path, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ann")
    file = corrections(tmp_path, "a,2,eosinophil")
    assert call("merge", run.out, "-o", run.out, "--review", file).code == 0
    assert reviewed(run)["a"]["reviewers"] == "ann"


@pytest.mark.parametrize("arguments", [("--reviewer", "=cmd"), ("--reviewer", "two\nlines")])
def test_what_cannot_be_a_name_is_refused(run, call, tmp_path, arguments):
    answer = call("merge", run.out, "-o", run.out, "--review", corrections(tmp_path, "a,2,eosinophil"), *arguments)
    assert answer.code == 2
    assert "--reviewer" in answer.err
    assert not (run.out / "review-log.jsonl").exists()


def test_cells_that_are_not_mentioned_are_right_as_they_were(run, tmp_path):
    found = review(run, corrections(tmp_path, "b,1,neutrophil"))
    assert list(found.slides) == ["b"]
    assert found.slides["b"].before == found.slides["b"].after == ("neutrophil", "unidentified")
    assert found.kappa == 1


def test_of_one_slide_the_cell_number_is_enough(tmp_path):
    folder = make_run(tmp_path / "out", "only")
    file = corrections(tmp_path, "2,basophil", header="cell,class")
    assert review(folder, file).slides["only"].after == ("neutrophil", "basophil")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["a,9,basophil"], "line 2: no cell '9' of slide 'a'"),
        (["z,1,basophil"], "no cell '1' of slide 'z'"),
        ([",1,basophil"], "no cell '1' of slide ''"),
        (["a,1,basofil"], "no class 'basofil'"),
        (["a,1,basophil", "a,1,monocyte"], "line 3: says monocyte of a cell that was called basophil"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line_and_nothing_is_entered(run, call, tmp_path, lines, why):
    file = corrections(tmp_path, *lines)
    answer = call("merge", run.out, "-o", run.out, "--review", file, "--reviewer", "Ann")
    assert answer.code == 2
    assert why in " ".join(answer.err.split())
    assert not (run.out / "review-log.jsonl").exists()


def test_a_time_that_is_none_or_has_no_zone_is_refused(run, tmp_path):
    for time in ("yesterday", "2026-01-30T10:00:00"):
        file = corrections(tmp_path, f"a,1,basophil,{time}", header="slide,cell,class,time")
        with pytest.raises(UsageError, match="line 2: time"):
            review(run, file)


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
    found = review(run, file)
    assert list(found.slides) == ["a"]
    assert found.slides["a"].after == ("neutrophil", "eosinophil")


def test_a_slide_named_in_windows_1252_is_found_and_one_that_is_not_there_named_with_its_line(tmp_path):
    folder = make_run(tmp_path / "out", "größe", "b")
    file = tmp_path / "corrections.csv"
    file.write_bytes("slide,cell,class\r\n,,\r\ngröße,1,basophil\r\n".encode("cp1252"))
    assert review(folder, file).slides["größe"].after == ("basophil", "unidentified")
    file.write_bytes("slide,cell,class\r\n,,\r\nmüll,1,basophil\r\n".encode("cp1252"))
    with pytest.raises(UsageError, match="line 3: no cell '1' of slide 'müll'"):
        review(folder, file)


def test_a_slide_is_named_as_in_cells_csv(tmp_path):
    folder = make_run(tmp_path / "out", "=cmd.png", "b")
    (written,) = {row["slide"] for row in rows(folder.out / "cells.csv")} - {"b"}
    assert written == "'=cmd.png"
    found = review(folder, corrections(tmp_path, f"{written},1,basophil"))
    assert list(found.slides) == ["=cmd.png"]
    assert list(reviewed(folder)) == [written, ALL_SLIDES]


def test_a_file_that_is_no_such_table_is_refused(run, tmp_path):
    for file in (corrections(tmp_path, header="a,b"), tmp_path / "gone.csv"):
        with pytest.raises(UsageError, match=str(file)):
            review(run, file)


def test_two_reviewers_of_one_slide_are_compared_and_the_last_word_counts(run, call, tmp_path):
    review(run, corrections(tmp_path, "a,2,eosinophil"), reviewer="Ann")
    assert not (run.out / "reviewers.csv").exists()
    later = NOW.replace(hour=9)
    found = review(run, corrections(tmp_path, "a,2,basophil", "b,1,neutrophil"), reviewer="Bob", now=later)
    assert found.slides["a"].after == ("neutrophil", "basophil")
    assert found.slides["a"].disputed == 1
    table = reviewed(run)
    assert (table["a"]["reviewers"], table["a"]["disputed"], table["b"]["disputed"]) == ("Ann; Bob", "1", "0")
    pairs = {row["slide"]: row for row in rows(run.out / "reviewers.csv")}
    assert list(pairs) == ["a", ALL_SLIDES]
    assert (pairs["a"]["first"], pairs["a"]["second"], pairs["a"]["agreed"]) == ("Ann", "Bob", "1")
    assert (pairs["a"]["eosinophil_first_count"], pairs["a"]["eosinophil_second_count"]) == ("1", "0")
    assert float(pairs["a"]["kappa"]) == pytest.approx(
        cohens_kappa(["neutrophil", "eosinophil"], ["neutrophil", "basophil"]), abs=1e-4
    )
    assert "a: the reviewers differ on 1 cells" in call("merge", run.out, "-o", run.out).err


def test_an_older_file_that_comes_late_does_not_overrule_a_newer_word(run, tmp_path):
    header = "slide,cell,class,time"
    new = corrections(tmp_path, "a,2,basophil,2026-01-30T10:00:00Z", header=header, name="new.csv")
    old = corrections(tmp_path, "a,2,monocyte,2026-01-30T09:00:00Z", header=header, name="old.csv")
    review(run, new)
    assert review(run, old).slides["a"].after == ("neutrophil", "basophil")


@pytest.mark.parametrize("order", [("first", "both"), ("first", "third", "second"), ("first", "second", "third")])
def test_who_comes_back_to_an_earlier_word_is_believed_whichever_file_is_entered_first(run, tmp_path, order):
    first, second, third = (
        f"a,2,{kind},anna,2026-01-0{day}T10:00:00Z"
        for day, kind in enumerate(("monocyte", "basophil", "monocyte"), start=1)
    )
    lines = {"first": [first], "second": [second], "third": [third], "both": [second, third]}
    header = "slide,cell,class,reviewer,time"
    files = [corrections(tmp_path, *lines[name], header=header, name=f"{name}.csv") for name in order]
    for file in files:
        found = review(run, file)
    assert found.slides["a"].after == ("neutrophil", "monocyte")
    assert len(found.log.entries) == 3
    assert review(run, *files).log == found.log  # twice is once


def test_a_word_said_now_counts_after_an_older_one_that_comes_in_beside_it(run, tmp_path):
    review(run, corrections(tmp_path, "a,2,monocyte"), now=NOW.replace(day=1))
    old = corrections(tmp_path, "a,2,basophil,2026-01-02T10:00:00Z", header="slide,cell,class,time", name="old.csv")
    files = [old, corrections(tmp_path, "a,2,monocyte")]
    found = review(run, *files)
    assert found.slides["a"].after == ("neutrophil", "monocyte")
    assert review(run, *files, now=NOW.replace(hour=20)).log == found.log


def test_what_two_reviewers_said_at_once_changes_nothing_when_it_is_entered_again(run, tmp_path):
    file = corrections(tmp_path, "a,2,monocyte,Ann", "a,2,basophil,Bob", header="slide,cell,class,reviewer")
    found = review(run, file)
    assert found.slides["a"].after == ("neutrophil", "basophil")
    assert review(run, file, now=NOW.replace(hour=20)).log == found.log


def test_the_same_file_twice_is_entered_once(run, tmp_path):
    file = corrections(tmp_path, "a,2,basophil", "b,1,monocyte")
    review(run, file)
    before = (run.out / "review-log.jsonl").read_bytes()
    review(run, file, now=NOW.replace(hour=20))
    assert (run.out / "review-log.jsonl").read_bytes() == before


def test_the_reviews_of_several_runs_come_together_in_their_merge(tmp_path):
    monday, tuesday = make_run(tmp_path / "monday", "a"), make_run(tmp_path / "tuesday", "b")
    review(monday, corrections(tmp_path, "a,2,basophil"), reviewer="Ann")
    review(tuesday, corrections(tmp_path, "b,2,monocyte"), reviewer="Bob", sign=["b"])
    for _ in range(2):  # a second merge adds nothing
        merged = merge([monday.out, tuesday.out], tmp_path / "week")
        assert merged.review is not None
        assert len(merged.review.log.entries) == 3
        assert merged.review.slides["a"].after == ("neutrophil", "basophil")
        assert [signature.stands for signature in merged.review.slides["b"].signatures] == [True]


def test_what_was_said_of_a_slide_before_it_was_analysed_anew_does_not_count_and_that_is_said(run, call, tmp_path):
    review(run, corrections(tmp_path, "a,2,basophil", "b,1,monocyte"), sign=["a"])
    moved = [make_cell(1, disc(30), 50, 50, "lymphocyte"), make_cell(2, disc(40), 150, 90, "monocyte")]
    run.commit(small_result("a", cells=moved), blank(), frozenset())
    answer = call("merge", run.out, "-o", run.out)
    assert "a: analysed anew since it was reviewed, or gone; 2 entries do not count" in " ".join(answer.err.split())
    assert list(reviewed(run)) == ["b", ALL_SLIDES]


def test_a_review_is_signed_with_name_time_and_checksum_of_its_rows(run, call, tmp_path):
    file = corrections(tmp_path, "a,2,basophil")
    answer = call("merge", run.out, "-o", run.out, "--review", file, "--sign", "a", "--reviewer", "Ann")
    assert answer.code == 0
    row = reviewed(run)["a"]
    assert (row["signed_by"], row["signature"]) == ("Ann", "stands")
    assert datetime.fromisoformat(row["signed_at"]) <= datetime.now(UTC)
    signature = review(run).log.entries[-1]
    table = hashlib.sha256((run.slides / "a" / "cells.csv").read_bytes()).hexdigest()
    lines = f"{table}\n1,neutrophil\n2,basophil\n"
    assert signature["review_sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_a_correction_after_the_signature_voids_it_until_it_is_signed_again(run, call, tmp_path):
    review(run, corrections(tmp_path, "a,2,basophil"), sign=["a"])
    later = NOW.replace(hour=9)
    review(run, corrections(tmp_path, "a,1,monocyte"), now=later)
    assert reviewed(run)["a"]["signature"] == "changed since"
    assert "a: its review has changed since it was signed" in call("merge", run.out, "-o", run.out).err
    review(run, sign=["a"], now=later)
    assert reviewed(run)["a"]["signature"] == "stands"


def test_slides_without_corrections_can_be_signed_by_a_pattern_and_twice_is_once(run):
    review(run, sign=["*"])
    found = review(run, sign=["a", "b"])
    assert len(found.log.entries) == 2
    assert {slide.signatures[0].stands for slide in found.slides.values()} == {True}


def test_what_is_not_there_and_nobody_cannot_sign(run, call):
    cases = {"--sign z: no slide": ["--sign", "z", "--reviewer", "Ann"], "give --reviewer": ["--sign", "a"]}
    for why, arguments in cases.items():
        answer = call("merge", run.out, "-o", run.out, *arguments)
        assert answer.code == 2
        assert why in answer.err


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

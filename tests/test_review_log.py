"""The log of reviews: lines are only added, and one that is changed, removed or moved is noticed."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest
from conftest import TOY_UM_PER_PX, spots, write_picture
from fakes import rows
from test_review import NOW, corrections, make_run, review

from wbc_cli.errors import UsageError
from wbc_cli.review.log import ReviewLog, read_log


@pytest.fixture
def run(tmp_path):
    """A run with five entries in its log."""
    folder = make_run(tmp_path / "out", "a", "b")
    review(folder, corrections(tmp_path, "a,1,basophil", "a,2,monocyte"), reviewer="Ann")
    review(folder, corrections(tmp_path, "b,2,eosinophil"), reviewer="Bob", sign=["*"], now=NOW.replace(hour=9))
    return folder


def lines_of(run):
    return (run.out / "review-log.jsonl").read_bytes().splitlines(keepends=True)


def write(run, lines):
    (run.out / "review-log.jsonl").write_bytes(b"".join(lines))


def test_each_line_carries_the_hash_of_the_one_before_and_the_checksum_is_what_sha256sum_takes(run):
    previous = "0" * 64
    for line in lines_of(run):
        assert json.loads(line)["previous"] == previous
        previous = hashlib.sha256(line).hexdigest()
    checked = subprocess.run(["sha256sum", "-c", "review-log.jsonl.sha256"], cwd=run.out, check=False)
    assert checked.returncode == 0


def test_lines_are_only_added(run, tmp_path):
    before = lines_of(run)
    review(run, corrections(tmp_path, "a,1,lymphocyte"), now=NOW.replace(hour=10))
    assert lines_of(run)[: len(before)] == before
    assert len(lines_of(run)) == len(before) + 1


@pytest.mark.parametrize("number", range(5))
def test_a_changed_line_is_noticed_wherever_it_is(run, number):
    lines = lines_of(run)
    for old, new in ((b'"Ann"', b'"Eve"'), (b'"Bob"', b'"Eve"')):
        lines[number] = lines[number].replace(old, new)
    assert lines != lines_of(run)
    write(run, lines)
    with pytest.raises(UsageError, match="review-log"):
        read_log(run.out)


@pytest.mark.parametrize("number", range(5))
def test_a_removed_line_is_noticed_wherever_it_was(run, number):
    lines = lines_of(run)
    del lines[number]
    write(run, lines)
    with pytest.raises(UsageError, match="removed"):
        read_log(run.out)


@pytest.mark.parametrize("number", range(4))
def test_lines_that_changed_places_are_noticed(run, number):
    lines = lines_of(run)
    lines[number : number + 2] = reversed(lines[number : number + 2])
    write(run, lines)
    with pytest.raises(UsageError, match="moved"):
        read_log(run.out)


def test_a_log_that_is_gone_empty_or_without_its_checksum_is_noticed(run):
    text = b"".join(lines_of(run))
    (run.out / "review-log.jsonl").write_bytes(b"")
    with pytest.raises(UsageError, match="checksum"):
        read_log(run.out)
    (run.out / "review-log.jsonl").unlink()
    with pytest.raises(UsageError, match="checksum"):
        read_log(run.out)
    write(run, [text])
    (run.out / "review-log.jsonl.sha256").unlink()
    with pytest.raises(UsageError, match="checksum"):
        read_log(run.out)


def test_a_line_that_was_put_in_is_noticed_and_so_is_one_that_is_no_entry(run):
    for odd in (b'{"kind": "correction"}\n', b"\xff\xfe\n", b"[]\n", lines_of(run)[0]):
        lines = lines_of(run)
        with_it = [*lines, odd]
        write(run, with_it)
        with pytest.raises(UsageError, match=f"line {len(with_it)}"):
            read_log(run.out)
        write(run, lines)
    assert len(read_log(run.out).entries) == 5


def test_a_merge_that_was_killed_between_log_and_checksum_is_no_damage(run):
    log = read_log(run.out)
    longer = log.extended([log.entries[0]])
    write(run, [longer.text])
    assert read_log(run.out) == longer
    (run.out / "review-log.jsonl").unlink()
    (run.out / "review-log.jsonl.sha256").write_text(ReviewLog().sum_line)
    assert read_log(run.out) == ReviewLog()  # killed before the first entry came to be


def test_a_damaged_log_stops_a_merge_before_anything_is_written(run, call, tmp_path):
    write(run, lines_of(run)[1:])
    before = {path: path.read_bytes() for path in run.out.glob("[a-z]*.*")}
    file = corrections(tmp_path, "a,1,lymphocyte")
    answer = call("merge", run.out, "-o", run.out, "--review", file, "--reviewer", "Ann")
    assert answer.code == 2
    assert "line 1: does not follow" in " ".join(answer.err.split())
    assert {path: path.read_bytes() for path in before} == before


def test_reviews_outlive_the_next_run_and_a_damaged_log_is_told_there(call, toy_weights, tmp_path):
    write_picture(tmp_path / "in" / "a.png", spots((100, 100)))
    out = tmp_path / "out"
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "report")
    analyze = ("analyze", tmp_path / "in", "-o", out, *common)
    assert call(*analyze).code == 0
    assert "review" not in json.loads((out / "run.json").read_text())
    file = corrections(tmp_path, "1,monocyte", header="cell,class")
    assert call("merge", out, "-o", out, "--review", file, "--reviewer", "Ann", "--sign", "a*").code == 0
    write_picture(tmp_path / "in" / "b.png", spots((100, 100), (300, 100)))
    assert call(*analyze).code == 0
    assert [row["reviewers"] for row in rows(out / "differential-reviewed.csv")] == ["Ann", "Ann"]
    assert json.loads((out / "run.json").read_text())["review"]["entries"] == 2
    assert "✓ Ann" in (out / "report.html").read_text()
    log = out / "review-log.jsonl"
    whole = log.read_text()
    log.write_text(whole.replace("monocyte", "basophil"))
    answer = call(*analyze)
    assert "the reviews do not count" in answer.err
    assert "does not follow from the line before" in (out / "report.html").read_text()
    assert not (out / "differential-reviewed.csv").exists()
    log.write_text(whole)  # from the backup
    assert "the reviews" not in call(*analyze).err
    assert "✓ Ann" in (out / "report.html").read_text()
    assert (out / "differential-reviewed.csv").exists()

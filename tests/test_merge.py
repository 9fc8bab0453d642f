"""Shards and runs side by side add up to what one run gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager

from conftest import spots, write_picture
from fakes import blank, committed, small_result
from runs_apart import rows, tables
from test_review import make_run

from wbc_cli.products.folder import RunFolder
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.shards import SHARDS, Shares


def test_a_second_run_in_the_same_folder_is_refused_with_the_name_of_the_first(analyze_apart, tmp_path):
    with locked(tmp_path / LOCK):
        answer = analyze_apart(tmp_path)
    assert answer.returncode == 5
    assert f"in use (process {os.getpid()} on " in answer.stderr
    assert analyze_apart(tmp_path).returncode == 0  # the lock file is still there, its holder is not


def test_shards_beside_each_other_merge_to_what_one_run_gives(command, analyze_apart, call, tmp_path, undisturbed):
    running = [
        subprocess.Popen(command(tmp_path, "-q", "--shard", f"{i}/3"), stdout=subprocess.DEVNULL) for i in range(3)
    ]
    assert [run.wait() for run in running] == [0, 0, 0]
    assert not (tmp_path / "differential.csv").exists()
    for out in (tmp_path, tmp_path / "elsewhere"):
        assert call("merge", tmp_path, "-o", out).code == 0
        assert tables(out) == undisturbed
        assert (out / "slides" / "s0.png" / "cells.csv").exists()
    assert analyze_apart(tmp_path, "--shard", "0/4").returncode == 2


def test_a_file_in_the_place_of_the_results_is_named(call, tmp_path):
    make_run(tmp_path / "run", "a")
    (tmp_path / "out").write_text("a file where the folder should be")
    answer = call("merge", tmp_path / "run", "-o", tmp_path / "out")
    assert answer.code == 5
    assert f"{tmp_path / 'out'} is a file; give a folder" in " ".join(answer.err.split())


def test_merge_says_which_shards_are_missing(analyze_apart, call, tmp_path):
    assert analyze_apart(tmp_path, "--shard", "1/3").returncode == 0
    answer = call("merge", tmp_path, "-o", tmp_path)
    assert answer.code == 3
    assert "shard 0/3 has not run" in answer.err
    assert "shard 2/3 has not run" in answer.err
    assert "shard 1/3" not in answer.err


def test_runs_of_different_folders_merge_and_contradictions_are_refused(analyze_apart, call, eight_pictures, tmp_path):
    first, second = tmp_path / "in1", tmp_path / "in2"
    for folder, names in ((first, ("s0.png", "s1.png")), (second, ("s2.png",))):
        folder.mkdir()
        for name in names:
            shutil.copy(eight_pictures / name, folder)
    assert analyze_apart(tmp_path / "a", source=first).returncode == 0
    assert analyze_apart(tmp_path / "b", source=second).returncode == 0
    assert call("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "both").code == 0
    assert list(rows(tmp_path / "both")) == ["s0.png", "s1.png", "s2.png"]
    write_picture(second / "s0.png", spots((240, 100), (350, 100)))
    assert analyze_apart(tmp_path / "b", source=second).returncode == 0
    answer = call("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "both")
    assert answer.code == 2
    assert "other results for s0.png" in answer.err


def test_a_slide_that_left_the_input_came_back_and_failed_is_merged_as_failed(call, tmp_path):
    folder = RunFolder(tmp_path)
    for name in ("a", "b", "c"):
        folder.commit(small_result(name), blank(), frozenset())
    folder.write_run({"not_in_input": ["a", "b"]}, committed(folder))
    folder.record_failure("a", tmp_path / "a.png", "cut off", {})  # by a run that was killed before it wrote its record
    assert call("merge", tmp_path, "-o", tmp_path).code == 3
    found = rows(tmp_path)
    assert {name: row["status"] for name, row in found.items()} == {"a": "failed", "b": "done", "c": "done"}
    assert {name for name, row in found.items() if "not_in_input" in row["flags"]} == {"b"}
    assert json.loads((tmp_path / "run.json").read_text())["not_in_input"] == ["b"]


def test_merge_reads_what_shards_wrote_once_it_holds_their_locks(call, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    Shares(1, {"a": 0}, {}).write(tmp_path / SHARDS)

    @contextmanager
    def until_the_shard_has_ended(*_, **__):
        folder.commit(small_result("a"), blank(), frozenset())
        folder.write_run({}, [folder.record("a")], "run-0-of-1.json")
        yield 0

    monkeypatch.setattr("wbc_cli.run.merge.locked", until_the_shard_has_ended)
    assert call("merge", tmp_path, "-o", tmp_path).code == 0
    assert list(rows(tmp_path)) == ["a"]

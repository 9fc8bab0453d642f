"""The batch script on a real Slurm: what is stopped goes on, and the merge waits for all."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from conftest import TOY_UM_PER_PX
from slurm_node import SlurmNode, missing

from wbc_cli.run.slurm import batch_script

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

# Its first task works until it is told to stop, and is done when started again; the third cannot read a slide.
STAND_IN = r"""#!/bin/bash
out=$4
if [ "$1" = merge ]; then
  exec cat "$out"/part-* >>"$out/merged"
fi
shard=${6%/*}
if [ "$shard" = 0 ] && [ ! -e "$out/begun" ]; then
  trap 'exit 75' TERM
  touch "$out/begun"
  while :; do sleep 0.1; done
fi
echo "shard $6, restarts ${SLURM_RESTART_COUNT:-0}" >"$out/part-$shard"
[ "$shard" != 2 ] || exit 3
"""


@pytest.fixture(scope="module")
def node():
    with SlurmNode() as running:
        yield running


@pytest.fixture
def submit_stand_in(node, tmp_path):
    """Submit the script for the stand-in; the array's number, once its first task is at work."""

    def submit(out, tasks):
        program = tmp_path / "stand-in"  # without a space: proctrack/linuxproc loses such processes
        program.write_text(STAND_IN)
        program.chmod(0o755)
        script = tmp_path / "job.sh"
        script.write_text(batch_script([tmp_path], out, tasks, program=[str(program)]))
        array = node.sbatch(script)
        node.wait((out / "begun").exists)
        return array

    return submit


def test_a_stopped_task_goes_on_and_the_merge_waits_for_it_and_for_failed_ones(node, submit_stand_in, tmp_path):
    out = tmp_path / "it's $HOME, 100% #1"
    array = submit_stand_in(out, 3)
    node.run("scancel", "--signal=TERM", f"{array}_0")
    node.wait_all()
    first, second, third = (node.job(ArrayJobId=array, ArrayTaskId=str(task)) for task in range(3))
    assert (first["JobState"], first["Restarts"]) == ("COMPLETED", "1")
    assert (second["JobState"], second["Restarts"]) == ("COMPLETED", "0")
    assert (third["JobState"], third["ExitCode"]) == ("FAILED", "3:0")
    shards = ["shard 0/3, restarts 1", "shard 1/3, restarts 0", "shard 2/3, restarts 0"]
    assert (out / "merged").read_text().splitlines() == shards
    assert "back into the queue" in (out / "logs" / "task-0.log").read_text()


def test_a_cancelled_task_stays_cancelled(node, submit_stand_in, tmp_path):
    array = submit_stand_in(tmp_path / "out", 1)
    node.run("scancel", array)
    node.wait_all()
    assert node.job(ArrayJobId=array)["JobState"] == "CANCELLED"
    assert not (tmp_path / "out" / "part-0").exists()


@pytest.mark.timeout(900)  # it waits for Slurm, and starts Python ten times
def test_an_array_that_runs_into_its_time_limit_gives_what_one_run_gives(node, toy_weights, tmp_path):
    wbc_cli("demo", tmp_path / "slides")
    (tmp_path / "slides" / "slide.svs").unlink()  # of which the toy network sees a thousand windows
    for number in range(2):  # so many that the first task is not done before it can be stopped
        shutil.copytree(
            tmp_path / "slides",
            tmp_path / "slides" / f"again{number}",
            ignore=shutil.ignore_patterns("again*"),
        )
    options = ["--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--precision", "fp32"]
    options = [*map(str, options), "--write", "mask"]
    wbc_cli("analyze", tmp_path / "slides", "-o", tmp_path / "single", *options)

    out, script = tmp_path / "array", tmp_path / "job.sh"
    script.write_text(wbc_cli("slurm", tmp_path / "slides", "-o", out, "--tasks", 2, "--", *options))
    array = node.sbatch(script, "--array=0-1%1")  # one by one, so that the first slide that is done is the first task's
    node.wait(lambda: any(out.glob("slides/**/slide.json")), 240)
    node.let_time_run_out(node.job(ArrayJobId=array, ArrayTaskId="0")["JobId"])
    jobs = [job for job in node.wait_all(400) if int(job["JobId"]) >= int(array)]

    assert {job["JobState"] for job in jobs} == {"COMPLETED"}, (out / "logs" / "task-0.log").read_text()
    assert node.job(ArrayJobId=array, ArrayTaskId="0")["Restarts"] == "1"
    for table in ("differential.csv", "cells.csv"):
        assert (out / table).read_text() == (tmp_path / "single" / table).read_text()


def wbc_cli(*arguments):
    command = [sys.executable, "-m", "wbc_cli.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

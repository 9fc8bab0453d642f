"""The batch script: paths arrive as they are, stopped tasks go on, and the merge is asked for once."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import spots, write_picture

from wbc_cli.errors import UsageError
from wbc_cli.run.slurm import MAX_RESTARTS, Resources, batch_script

ODD_NAMES = ["two words", "it's", 'say "cells"', "$HOME `id` $(id)", "two\nlines", "back\\slash", "a#b;c&d*?", "naïve"]

# In place of a command of Slurm: writes down how it is called; srun ends with the code that it finds.
COMMAND = """#!/bin/bash
printf '%s\\0' "$@" >>{folder}/calls-{name}
[ ! -e {folder}/code-{name} ] || exit "$(<{folder}/code-{name})"
"""


@dataclass
class Cluster:
    """Commands named as Slurm's, that only write down how they are called."""

    folder: Path

    def __post_init__(self):
        (self.folder / "bin").mkdir(parents=True)
        for name in ("srun", "sbatch", "scontrol", "program"):
            command = self.folder / "bin" / name
            command.write_text(COMMAND.format(folder=self.folder, name=name))
            command.chmod(0o755)

    def start(self, script, task=0, restarts=0, code=0, **variables):
        """Run the script as Slurm runs it for a task of which srun ends with this code; the task's code."""
        (self.folder / "code-srun").write_text(str(code))
        environment = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "SLURM_JOB_ID": "17",
            "SLURM_ARRAY_JOB_ID": "16",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_MIN": "0",
            **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}),
            **variables,
        }
        return subprocess.run(["bash"], input=script, text=True, env=environment, check=False).returncode

    def arguments(self, name):
        """All that this command has been called with."""
        file = self.folder / f"calls-{name}"
        return file.read_text().split("\0")[:-1] if file.exists() else []


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path / "cluster")


def header(script):
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_paths_with_spaces_quotes_dollars_and_line_breaks_arrive_as_they_are(cluster, tmp_path, name):
    slides, out, weights = tmp_path / name / "slides", tmp_path / name / "out", str(tmp_path / name / "weights")
    script = batch_script([slides, tmp_path], out, 2, options=["--weights", weights], program=[f"/opt/{name}/wbc"])
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert cluster.start(script, task=1) == 0
    analyze = [f"/opt/{name}/wbc", "analyze", str(slides), str(tmp_path), "-o", str(out), "--weights", weights]
    assert cluster.arguments("srun") == [*analyze, "--shard", "1/2"]
    assert (out / "logs" / "task-1.log").exists()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_merge_gets_the_folder_as_it_is(cluster, tmp_path, name):
    out = tmp_path / name
    script = batch_script([tmp_path], out, 2, program=[str(cluster.folder / "bin" / "program")])
    cluster.start(script)
    (wrapped,) = [part.removeprefix("--wrap=") for part in cluster.arguments("sbatch") if part.startswith("--wrap=")]
    subprocess.run(["sh", "-c", wrapped], check=True)
    assert cluster.arguments("program") == ["merge", str(out), "-o", str(out)]
    assert (out / "logs" / "merge.log").exists()


def test_paths_are_made_absolute_as_the_job_may_start_elsewhere(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cluster.start(batch_script([Path("slides")], Path("out"), 1))
    assert str(tmp_path / "slides") in cluster.arguments("srun")
    assert str(tmp_path / "out") in cluster.arguments("srun")
    assert (tmp_path / "out" / "logs" / "task-0.log").exists()


@pytest.mark.parametrize("code", [0, 1, 3, 5, 143])
def test_a_task_ends_with_the_code_of_the_program(cluster, tmp_path, code):
    assert cluster.start(batch_script([tmp_path], tmp_path, 1), code=code) == code
    assert cluster.arguments("scontrol") == []


def test_a_stopped_task_puts_itself_back_into_the_queue_but_not_for_ever(cluster, tmp_path):
    script = batch_script([tmp_path], tmp_path, 2)
    assert cluster.start(script, task=1, restarts=MAX_RESTARTS, code=75) == 75
    assert cluster.arguments("scontrol") == []
    assert cluster.start(script, task=1, restarts=MAX_RESTARTS - 1, code=75) == 75
    assert cluster.arguments("scontrol") == ["requeue", "17"]
    assert "--array=1 to go on" in (tmp_path / "logs" / "task-1.log").read_text()


def test_only_the_first_task_at_its_first_start_asks_for_the_merge(cluster, tmp_path):
    script = batch_script([tmp_path], tmp_path, 3)
    cluster.start(script, task=1)
    cluster.start(script, task=0, restarts=1)
    assert cluster.arguments("sbatch") == []
    cluster.start(script, task=0)
    assert "--dependency=afterany:16" in cluster.arguments("sbatch")


def test_a_task_that_is_submitted_again_by_itself_is_merged_with_the_others(cluster, tmp_path):
    cluster.start(batch_script([tmp_path], tmp_path, 3), task=2, SLURM_ARRAY_TASK_MIN="2")
    assert "--dependency=afterany:16" in cluster.arguments("sbatch")
    assert cluster.arguments("srun")[-1] == "2/3"


def test_the_merge_runs_where_and_as_long_as_the_tasks_may(cluster, tmp_path):
    script = batch_script([tmp_path], tmp_path, 1, Resources(gpus=1, cpus=8, time="08:00:00", memory="16G"))
    cluster.start(script, SLURM_JOB_PARTITION="gpu", SLURM_JOB_ACCOUNT="lab")
    asked = cluster.arguments("sbatch")
    assert {"--partition=gpu", "--account=lab", "--time=08:00:00", "--mem=16G"} <= set(asked)
    assert not [part for part in asked if "gpus" in part or "cpus" in part or "qos" in part]


def test_the_analysis_goes_on_where_the_merge_cannot_be_submitted(cluster, tmp_path):
    (cluster.folder / "code-sbatch").write_text("1")
    assert cluster.start(batch_script([tmp_path], tmp_path, 1)) == 0
    assert cluster.arguments("srun")
    assert f" merge {tmp_path} -o {tmp_path}" in (tmp_path / "logs" / "task-0.log").read_text()


def test_nothing_is_asked_of_slurm_that_the_user_has_not_asked_for(cluster, tmp_path):
    script = batch_script([tmp_path], tmp_path, 4)
    asked = header(script)
    assert {"--array=0-3", "--requeue", "--signal=TERM@60", "--open-mode=append"} <= set(asked)
    assert not [line for line in asked if line.startswith(("--gpus", "--gres", "--cpus", "--mem", "--time"))]
    cluster.start(script)
    assert not [part for part in cluster.arguments("srun") if part.startswith("--cpus")]


def test_resources_are_asked_for_in_the_header_and_the_cores_again_for_srun(cluster, tmp_path):
    script = batch_script([tmp_path], tmp_path, 4, Resources(gpus=1, cpus=8, time="1-12:00:00", memory="16G"))
    assert {"--gpus-per-task=1", "--cpus-per-task=8", "--time=1-12:00:00", "--mem=16G"} <= set(header(script))
    cluster.start(script, SLURM_CPUS_PER_TASK="8")
    assert cluster.arguments("srun")[0] == "--cpus-per-task=8"


@pytest.mark.parametrize("wrong", [{"time": "tomorrow"}, {"time": "1\n#SBATCH --x"}, {"memory": "16 GB"}])
def test_a_time_or_memory_that_slurm_does_not_know_is_wrong_usage(wrong):
    with pytest.raises(UsageError, match="give"):
        Resources(**wrong)


def test_outside_slurm_the_script_says_how_it_is_meant(cluster, tmp_path):
    script = batch_script([tmp_path], tmp_path, 1)
    done = subprocess.run(["bash"], input=script, text=True, env={}, capture_output=True, check=False)
    assert done.returncode != 0
    assert "sbatch" in done.stderr
    assert cluster.arguments("srun") == []


def test_the_command_prints_the_script_and_tries_the_options_of_analyze_out(call, tmp_path):
    write_picture(tmp_path / "in/a.png", spots((100, 100)))
    command = ("slurm", tmp_path / "in", "-o", tmp_path / "out", "--tasks", 3, "--gpus-per-task", 1, "--")
    answer = call(*command, "--mpp", 0.25)
    assert answer.code == 0
    assert {"--array=0-2", "--gpus-per-task=1"} <= set(header(answer.out))
    assert f"analyze {tmp_path / 'in'} -o {tmp_path / 'out'} --mpp 0.25" in answer.out
    for wrong in (("--shard", "0/2"), ("--mpp", "wide")):
        refused = call(*command, *wrong)
        assert (refused.code, refused.out) == (2, "")

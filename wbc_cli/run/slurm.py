"""The batch script for a Slurm cluster: an array of tasks, a shard each, and the merge of their tables after it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.errors import ExitCode, UsageError

MAX_RESTARTS = 20
_TIME = re.compile(r"(\d+-)?\d+(:\d\d?){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")

# -P: a file json.py in the folder that the job starts in is not Python's own.
PROGRAM = (sys.executable, "-P", "-m", "wbc_cli.cli")


@dataclass(frozen=True)
class Resources:
    """What each task asks Slurm for; None leaves it to the cluster's defaults."""

    gpus: int | None = None
    cpus: int | None = None
    time: str | None = None  # as sbatch takes it: minutes, HH:MM:SS, D-HH:MM:SS
    memory: str | None = None  # as sbatch takes it: 16G

    def __post_init__(self) -> None:
        # They stand in the script as they are.
        if self.time is not None and not _TIME.fullmatch(self.time):
            raise UsageError(f"--time {self.time}: give HH:MM:SS or D-HH:MM:SS")
        if self.memory is not None and not _MEMORY.fullmatch(self.memory):
            raise UsageError(f"--mem {self.memory}: give a number with K, M, G or T, such as 16G")


def batch_script(
    paths: Sequence[Path],
    out: Path,
    tasks: int,
    resources: Resources = Resources(),
    options: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
) -> str:
    """Return the script that `sbatch` takes: `tasks` shards of the analysis of `paths` into `out`, then their merge.

    `options` go to `analyze` as they are, so paths among them have to be absolute. `program` is the command of this
    tool. Nothing has to exist before the script is submitted: it makes `out` and the folder `out/logs` itself.
    """
    out = out.absolute()
    logs = out / "logs"
    analyze = [*program, "analyze", *(str(path.absolute()) for path in paths), "-o", str(out), *options]
    merge = shlex.join([*program, "merge", str(out), "-o", str(out)])
    merge_log = shlex.quote(str(logs / "merge.log"))
    limits = [
        *([f"--time={resources.time}"] if resources.time else []),
        *([f"--mem={resources.memory}"] if resources.memory else []),
    ]
    header = [
        "--job-name=wbc-cli",
        f"--array=0-{tasks - 1}",
        "--nodes=1",
        "--ntasks=1",
        *([f"--cpus-per-task={resources.cpus}"] if resources.cpus else []),
        *([f"--gpus-per-task={resources.gpus}"] if resources.gpus else []),
        *limits,
        "--requeue",
        "--signal=TERM@60",
        "--open-mode=append",
        "--output=/dev/null",
    ]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in header),
            _ABOUT,
            f"tasks={tasks}",
            f"max_restarts={MAX_RESTARTS}",
            f"stopped={ExitCode.STOPPED:d}",
            f"logs={shlex.quote(str(logs))}",
            f"analyze=({shlex.join(analyze)})",
            f"merge={shlex.quote(f'{merge} >>{merge_log} 2>&1')}",
            f"merge_job=({shlex.join(['sbatch', '--job-name=wbc-merge', '--output=/dev/null', *limits])})",
            _BODY,
        ]
    )


_ABOUT = """
# Submit with `sbatch`; account and partition can be given there. Tasks and merge write logs into the folder below.
# To go on after a failure submit it again, all of it or with --array=3 one task: what is done is not done twice.
# The program is called by its full path, so that no environment has to be activated.
"""

_BODY = r"""
set -u
: "${SLURM_ARRAY_TASK_ID:?submit this script with sbatch}"
restarts=${SLURM_RESTART_COUNT:-0}

# Not by --output: without its folder Slurm fails a task before it starts, and says so nowhere.
{ mkdir -p "$logs" && exec >>"$logs/task-$SLURM_ARRAY_TASK_ID.log" 2>&1; } || exit 5

# The array's first task asks for the merge, when it starts for the first time. afterany: a slide that cannot be read
# makes its task end with a code other than 0, and after that afterok would never merge the others.
if [ "$SLURM_ARRAY_TASK_ID" -eq "$SLURM_ARRAY_TASK_MIN" ] && [ "$restarts" -eq 0 ]; then
  "${merge_job[@]}" --dependency="afterany:$SLURM_ARRAY_JOB_ID" --wrap="$merge" \
    ${SLURM_JOB_PARTITION:+--partition="$SLURM_JOB_PARTITION"} ${SLURM_JOB_ACCOUNT:+--account="$SLURM_JOB_ACCOUNT"} \
    ${SLURM_JOB_QOS:+--qos="$SLURM_JOB_QOS"} ||
    echo "the merge could not be submitted; when all tasks have ended, run: $merge"
fi

# srun, since --signal reaches what srun starts and not this shell: a minute before the time limit the program is told
# to stop, and says by its code that there is more to do. srun does not take the number of cores from the header.
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  "${analyze[@]}" --shard "$SLURM_ARRAY_TASK_ID/$tasks"
code=$?

if [ "$code" -eq "$stopped" ]; then
  if [ "$restarts" -ge "$max_restarts" ]; then
    echo "stopped after $restarts restarts; submit again with --array=$SLURM_ARRAY_TASK_ID to go on"
  else
    echo "stopped; back into the queue, to go on"  # before: Slurm may end this script as soon as it is requeued
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
exit "$code"
"""

"""A real Slurm of one node, for as long as a test needs it, with all it writes in one temporary folder."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

DAEMONS = ("munged", "slurmctld", "slurmd")
TOOLS = ("mungekey", "setpriv", "sbatch", "srun", "scontrol", "squeue", "scancel")
# Also that of the jobs: no environment is activated in it.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Timers are as short as Slurm allows. cred_expire is also how long a requeued task waits before it starts again.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
JobRequeue=1
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why Slurm cannot be started here; empty when it can."""
    absent = [name for name in (*DAEMONS, *TOOLS) if shutil.which(name, path=PATH) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


class SlurmNode:
    """Use it with `with`; its methods call the commands of the same name."""

    def __enter__(self) -> SlurmNode:
        with ExitStack() as opened:
            # Not in pytest's folder: munged wants one that every user may enter.
            self.folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
            self.folder.chmod(0o755)
            opened.callback(self._kill_what_is_left)
            self.environment = {"PATH": PATH, "HOME": str(self.folder), "SLURM_CONF": str(self.folder / "slurm.conf")}
            self._configure()
            self._start(opened, "munged", "-F", *self._munge_files())
            self._wait_for((self.folder / "munge.socket").exists, "munged")
            self._start(opened, "slurmctld", "-D")
            self._start(opened, "slurmd", "-D", "-N", "node")
            self._wait_for(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T", check=False), "slurmd")
            opened.callback(self._cancel_all)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def sbatch(self, script: Path, *arguments: str) -> str:
        """Submit; the number of the job."""
        return self.run("sbatch", "--parsable", *arguments, str(script)).strip()

    def jobs(self) -> list[dict[str, str]]:
        """What `scontrol show job` says of every job and task, by the names it gives."""
        lines = self.run("scontrol", "-o", "show", "job", check=False).splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId=")]

    def job(self, **fields: str) -> dict[str, str]:
        """The one job of which these fields are true; empty when there is none yet."""
        found = [job for job in self.jobs() if fields.items() <= job.items()]
        assert len(found) <= 1, found
        return found[0] if found else {}

    def wait(self, condition: Callable[[], Answer], seconds: float = 60.0) -> Answer:
        """Until the condition holds; what it said. Fails with all that Slurm knows."""
        end = time.monotonic() + seconds
        while not (answer := condition()):
            assert time.monotonic() < end, f"{self.run('scontrol', 'show', 'job', check=False)}\n{self.logs()}"
            time.sleep(0.1)
        return answer

    def wait_all(self, seconds: float = 60.0) -> list[dict[str, str]]:
        """Until nothing waits or runs; the jobs as they ended."""
        self.wait(lambda: not self.run("squeue", "-h"), seconds)
        return self.jobs()

    def let_time_run_out(self, job: str) -> None:
        """Have Slurm stop a running job as before a time limit, and wait until it has been put back into the queue.

        A limit is whole minutes, Slurm looks every 30 s and warns up to 90 s before; 45 s are left at least. Until then
        the job's steps are held, so that they do not come to their end; with the signal Slurm lets them go on.
        """
        self.run("scancel", "--signal=STOP", job)
        before = self.job(JobId=job)
        hours, minutes, seconds = map(int, before["RunTime"].split(":"))
        limit = math.ceil(hours * 60 + minutes + (seconds + 45) / 60)
        self.run("scontrol", "update", f"jobid={job}", f"timelimit={limit}")
        self.wait(lambda: int(self.job(JobId=job)["Restarts"]) > int(before["Restarts"]))
        self.run("scontrol", "update", f"jobid={job}", "timelimit=UNLIMITED")

    def run(self, *command: str, check: bool = True) -> str:
        """Call a command of Slurm; what it printed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
        return done.stdout

    def logs(self) -> str:
        """The end of what each daemon wrote."""
        texts = {path.name: path.read_text(errors="replace")[-4000:] for path in sorted(self.folder.glob("*.log"))}
        return "\n".join(f"{name}:\n{text}" for name, text in texts.items())

    def _configure(self) -> None:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            ports = first.getsockname()[1], second.getsockname()[1]
        host = socket.gethostname().split(".")[0]
        text = CONFIG.format(folder=self.folder, host=host, controller_port=ports[0], node_port=ports[1])
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.run("mungekey", "--create", f"--keyfile={self.folder}/munge.key")

    def _munge_files(self) -> list[str]:
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        return [f"--{option}={self.folder}/munge.{ending}" for option, ending in files.items()]

    def _start(self, opened: ExitStack, name: str, *arguments: str) -> None:
        log = opened.enter_context((self.folder / f"{name}.log").open("wb"))
        # pdeathsig: tests that are killed themselves leave no daemon behind.
        command = ["setpriv", "--pdeathsig", "KILL", name, *arguments]
        daemon = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        opened.callback(_stop, daemon)

    def _wait_for(self, ready: Callable[[], bool], name: str) -> None:
        end = time.monotonic() + 30
        while not ready():
            assert time.monotonic() < end, f"{name} does not start\n{self.logs()}"
            time.sleep(0.05)

    def _cancel_all(self) -> None:
        self.run("scancel", "--user=root", check=False)
        end = time.monotonic() + 10
        while self.run("squeue", "-h", check=False) and time.monotonic() < end:
            time.sleep(0.1)

    def _kill_what_is_left(self) -> None:
        """Processes of jobs that Slurm could not end: whatever was started with this configuration."""
        mark = f"SLURM_CONF={self.folder}/".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # gone meanwhile
                if mark in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()

"""Runs do on disks that are full, or lack links and locks."""

from __future__ import annotations

import os
import subprocess

import pytest
from runs_apart import COUNT, committed, tables


def test_a_disk_without_hard_links_and_locks_will_do(analyze_apart, call, sabotage, tmp_path, undisturbed):
    sabotage(
        "import errno, fcntl, os\n"
        "def no(*_, **__):\n    raise OSError(errno.ENOLCK, 'No locks available')\n"
        "fcntl.flock = os.link = no\n"
    )
    answer = analyze_apart(tmp_path, "--shard", "0/1")
    assert answer.returncode == 0
    assert "no locks" in answer.stderr
    assert call("merge", tmp_path, "-o", tmp_path).code == 0
    assert tables(tmp_path) == undisturbed


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_run_and_it_goes_on_once_there_is_room(analyze_apart, tmp_path, undisturbed):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        (disk / "ballast").write_bytes(bytes(213_000))
        answer = analyze_apart(disk / "out")
        assert answer.returncode == 5
        assert "No space left" in answer.stderr
        assert "Traceback" not in answer.stderr
        assert 0 < len(committed(disk / "out")) < COUNT
        (disk / "ballast").unlink()
        assert analyze_apart(disk / "out").returncode == 0
        assert tables(disk / "out") == undisturbed
    finally:
        subprocess.run(["umount", disk], check=True)

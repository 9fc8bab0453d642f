"""Cores are those that a container grants, not those of the machine."""

from __future__ import annotations

import pytest

from wbc_cli.resources.cores import available_cores


def groups(root, line):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line + "\n")
    return root


@pytest.fixture(autouse=True)
def many_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("250000 100000", 3), ("max 100000", 16)])
def test_the_quota_of_a_control_group_counts(tmp_path, quota, cores):
    (tmp_path / "sys/fs/cgroup/job").mkdir(parents=True)
    root = groups(tmp_path, "0::/job")
    (tmp_path / "sys/fs/cgroup/job/cpu.max").write_text(quota)
    assert available_cores(root) == cores


def test_that_of_a_group_around_it_counts_too_and_a_path_of_outside_the_container_does_no_harm(tmp_path):
    root = groups(tmp_path, "0::/docker/1234/task")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000")
    assert available_cores(root) == 1


def test_version_1_has_its_quota_in_two_files(tmp_path):
    root = groups(tmp_path, "4:cpu,cpuacct:/job\n3:memory:/job")
    folder = tmp_path / "sys/fs/cgroup/cpu/job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("400000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    (folder.parent / "cpu.cfs_quota_us").write_text("-1")
    (folder.parent / "cpu.cfs_period_us").write_text("100000")
    assert available_cores(root) == 4


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert available_cores(tmp_path) == 16

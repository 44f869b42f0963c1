from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.engines.cores import usable_cores


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine of eight CPUs, all open to this process."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return 8


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_further_facts_every_cpu_is_a_core(tmp_path: Path, cpus: int) -> None:
    assert usable_cores(tmp_path) == (cpus, "one for each of 8 cores")


def test_hyper_threads_of_a_core_count_once(tmp_path: Path, cpus: int) -> None:
    for cpu in range(cpus):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(topology / "thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    assert usable_cores(tmp_path)[0] == 4


def test_container_limit_caps_the_cores(tmp_path: Path, cpus: int) -> None:
    write(tmp_path / "sys/fs/cgroup/cpu.max", "250000 100000\n")
    assert usable_cores(tmp_path) == (2, "the container may use 2.5 CPUs")


def test_limit_of_an_outer_group_counts_too(tmp_path: Path, cpus: int) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/services/encore\n")
    write(tmp_path / "sys/fs/cgroup/services/encore/cpu.max", "max 100000\n")
    write(tmp_path / "sys/fs/cgroup/services/cpu.max", "300000 100000\n")
    assert usable_cores(tmp_path)[0] == 3


def test_less_than_one_cpu_still_gives_a_thread(tmp_path: Path, cpus: int) -> None:
    write(tmp_path / "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert usable_cores(tmp_path) == (1, "the container may use 0.5 CPUs")


def test_control_groups_of_version_1_are_read(tmp_path: Path, cpus: int) -> None:
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert usable_cores(tmp_path)[0] == 2

"""How many CPU cores this process may really use: affinity and container limits count, hyper-threads do not."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> tuple[int, str]:
    """Return the number of cores to compute on and why; `root` is where /sys and /proc are found."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = len({_siblings(root, cpu) for cpu in cpus})
    quota = _container_limit(root)
    if quota is not None and quota < cores:
        return max(1, math.floor(quota)), f"the container may use {quota:g} CPUs"
    return cores, f"one for each of {cores} cores"


def control_groups(root: Path = _ROOT) -> list[Path]:
    """Return the folders of the control groups (version 2) that this process is in, the innermost first."""
    group = Path()
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                group = Path(line[len("0::/") :])
    return [root / "sys/fs/cgroup" / folder for folder in (group, *group.parents)]


def _siblings(root: Path, cpu: int) -> str:
    """Return the hyper-threads of a CPU's core, or the CPU alone where the system doesn't tell."""
    with contextlib.suppress(OSError):
        return (root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    return str(cpu)


def _container_limit(root: Path) -> float | None:
    """Return the smallest CPU quota of the control groups (version 2, then 1) that this process is in."""
    limits: list[float] = []
    for folder in control_groups(root):
        with contextlib.suppress(OSError, ValueError):
            allowed, period = (folder / "cpu.max").read_text().split()
            limits.append(int(allowed) / int(period))  # `max` is no number: no limit
    with contextlib.suppress(OSError, ValueError):
        allowed = (root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text()
        period = (root / "sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()
        if int(allowed) > 0:
            limits.append(int(allowed) / int(period))
    return min(limits, default=None)

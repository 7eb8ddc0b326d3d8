"""How many CPUs this process may use, as the container runtime set it."""

import os
from pathlib import Path


def usable_cpus(
    cgroup_root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Whole CPUs under the cgroup limit (v1 or v2), else the cores; at least 1.

    A limit of 1.5 CPUs counts as 1: more threads than CPUs makes torch many times slower,
    because its threads spin while they wait for each other.
    """
    cores = _cores()
    limit = _quota(cgroup_root, membership)
    return cores if limit is None else max(1, min(cores, int(limit)))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path, membership: Path) -> float | None:
    limits = []
    for controllers, path in _memberships(membership):
        if controllers == "":
            mounts, read = [root], _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = [root / "cpu", root / "cpu,cpuacct"], _quota_v1
        else:
            continue
        for mount in mounts:
            # Any ancestor may carry the limit. In a container the path is often that of the host,
            # which does not exist inside; the mount itself then is the container's group.
            folder = mount / path.lstrip("/")
            for group in (folder, *folder.parents):
                limit = read(group)
                if limit is not None:
                    limits.append(limit)
                if group == mount:
                    break
    return min(limits, default=None)


def _memberships(file: Path) -> list[tuple[str, str]]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    fields = [line.split(":", 2) for line in lines]
    return [(controllers, path) for _, controllers, path in fields]


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if quota <= 0 else quota / period

"""What memory this machine has for models.

The cgroup counts too: in a container or on a JupyterHub, psutil sees the machine and the kernel kills at the
limit of the group.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["available_memory", "process_memory"]

_CGROUP: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def available_memory() -> int:
    """Bytes that can be allocated without swapping, by the machine and by this process's cgroups."""
    available = int(psutil.virtual_memory().available)
    for group in _groups():
        limit = _read_number(group / "memory.max")
        used = _read_number(group / "memory.current")
        if limit is not None and used is not None:
            # Page cache is charged to the group, but is given back when memory is asked for.
            available = min(available, max(0, limit - used + _inactive_file(group)))
    return available


def process_memory(pid: int) -> int:
    """Resident bytes of a process, 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _groups() -> Iterator[Path]:
    """The cgroup of this process and those around it, each of which may have a limit (cgroup v2).

    In a container the path may be the host's, of which nothing but the root is to be seen.
    """
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        lines = []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = _CGROUP / own.strip("/")
    while group != _CGROUP:
        yield group
        group = group.parent
    yield _CGROUP


def _read_number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _inactive_file(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0

"""What memory this machine has for models.

The cgroup counts too: in a container or on a JupyterHub, psutil sees the machine and the kernel kills at the
limit of the group.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

__all__ = ["available_memory", "process_memory"]

_CGROUP: Final = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that can be allocated without swapping, by the machine and by this process's cgroup."""
    available = int(psutil.virtual_memory().available)
    limit = _read_number(_CGROUP / "memory.max")
    used = _read_number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        # Page cache is charged to the group, but is given back when memory is asked for.
        available = min(available, max(0, limit - used + _inactive_file()))
    return available


def process_memory(pid: int) -> int:
    """Resident bytes of a process, 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _read_number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _inactive_file() -> int:
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0

"""How much memory there is for models: the machine's, or less where a cgroup says so."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from ollama_nb.runner import devices

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """``groups(own, files)``: the cgroups that the process says it is in, and the files of all groups by path."""
    root = tmp_path / "cgroup"
    root.mkdir()
    monkeypatch.setattr(devices, "_CGROUP", root)
    monkeypatch.setattr(devices, "_OWN_CGROUP", tmp_path / "own")

    def make(own: str, files: dict[str, str | int]) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    # Far more than any limit of these tests.
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000 * GIB}))
    return make


def test_without_cgroups_the_machine_decides(groups):
    groups("", {})
    assert devices.available_memory() == 1000 * GIB


def test_a_container_sees_its_own_group_as_the_root(groups):
    groups("0::/\n", {"memory.max": 8 * GIB, "memory.current": 3 * GIB})
    assert devices.available_memory() == 5 * GIB


def test_page_cache_counts_as_free(groups):
    stat = f"anon {GIB}\nactive_file {GIB}\ninactive_file {2 * GIB}"
    groups("0::/\n", {"memory.max": 8 * GIB, "memory.current": 7 * GIB, "memory.stat": stat})
    assert devices.available_memory() == 3 * GIB


def test_a_group_without_a_limit_is_none(groups):
    groups("0::/\n", {"memory.max": "max", "memory.current": 3 * GIB})
    assert devices.available_memory() == 1000 * GIB


def test_a_group_over_its_limit_leaves_nothing(groups):
    groups("0::/\n", {"memory.max": GIB, "memory.current": 2 * GIB})
    assert devices.available_memory() == 0


@pytest.mark.parametrize(
    ("limits", "free"),
    [
        ({"hub/user": 4}, 3),
        ({"hub": 6}, 5),
        ({"hub/user": 4, "hub": 2}, 1),
        ({"hub/other": 1}, 1000),
    ],
)
def test_the_smallest_limit_of_this_processs_groups_counts(groups, limits, free):
    files = {f"{group}/memory.max": size * GIB for group, size in limits.items()}
    groups("1:name=systemd:/x\n0::/hub/user\n", files | {f"{group}/memory.current": GIB for group in limits})
    assert devices.available_memory() == free * GIB


def test_a_host_path_that_the_container_does_not_see_leaves_the_root(groups):
    groups("0::/docker/0123\n", {"memory.max": 2 * GIB, "memory.current": GIB})
    assert devices.available_memory() == GIB


def test_this_machine_has_memory():
    assert 0 < devices.available_memory() <= psutil.virtual_memory().total


def test_the_memory_of_a_process_is_known_while_it_lives():
    assert devices.process_memory(os.getpid()) > 1 << 20
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    assert devices.process_memory(gone.pid) == 0

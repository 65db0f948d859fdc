"""Where a control group can be made, and what is written into it: with folders that look like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.sandbox.memory_group import NAME, MemoryGroup, candidates, tidy, uncounted

V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
OTHER = "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"


@pytest.mark.parametrize(
    ("own", "mounts", "found"),
    [
        ("4:memory:/a/b\n8:pids:/c\n0::/\n", OTHER + V1, ["/sys/fs/cgroup/memory/a/b"]),
        ("4:cpu,memory:/\n", V1.replace("rw,memory", "rw,cpu,memory"), ["/sys/fs/cgroup/memory"]),
        (
            "0::/user.slice/user-1000.slice/run.scope\n",
            V2,
            [
                "/sys/fs/cgroup/user.slice/user-1000.slice/run.scope",
                "/sys/fs/cgroup/user.slice/user-1000.slice",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup",
            ],
        ),
        ("0::/\n", V2, ["/sys/fs/cgroup"]),
        # a container that sees its own part of the host's hierarchy
        ("4:memory:/docker/abc/x\n", V1.replace(" / /sys", " /docker/abc /sys"), ["/sys/fs/cgroup/memory/x"]),
        ("4:memory:/elsewhere\n", V1.replace(" / /sys", " /docker/abc /sys"), []),
        ("0::/a\n", OTHER, []),
        ("", V1, []),
    ],
)
def test_places_to_make_groups_in(own: str, mounts: str, found: list[str]) -> None:
    assert candidates(own, mounts) == [Path(place) for place in found]


def test_limits_of_version_2(tmp_path: Path) -> None:
    for name in ("cgroup.procs", "memory.max", "memory.swap.max", "memory.oom.group"):
        (tmp_path / name).touch()
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n")
    group = MemoryGroup(tmp_path)
    group.limit(400 << 20)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert (found["memory.max"], found["memory.swap.max"], found["memory.oom.group"]) == (str(400 << 20), "0", "1")
    assert group.ended() == 2
    group.limit(100 << 20)
    assert (tmp_path / "memory.max").read_text() == str(100 << 20)


def test_limits_of_version_1(tmp_path: Path) -> None:
    for name in ("cgroup.procs", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.force_empty"):
        (tmp_path / name).touch()
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    group = MemoryGroup(tmp_path)
    group.limit(64 << 20)
    assert (tmp_path / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (tmp_path / "memory.memsw.limit_in_bytes").read_text() == str(64 << 20)
    assert group.ended() == 5


def test_what_is_weaker_without_one_is_said_in_words() -> None:
    said = uncounted()
    assert said is None or ("no control group" in said and "memfd_create" in said)


def test_groups_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    gone = 2**22 + 1  # above what Linux gives
    for name in (f"{NAME}-{gone}-0", f"{NAME}-{gone}-1", f"{NAME}-{os.getpid()}-0", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{NAME}-{gone}-1" / "busy").mkdir()
    tidy(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{NAME}-{gone}-1", f"{NAME}-{os.getpid()}-0", "other"}

"""How a sandbox's first process is started: by bubblewrap, or, only where a user insists, without any walls."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from operators.sandbox import Mounts
from schemas.errors import BadInput

INSIDE = Path(__file__).with_name("inside")
START = "import sys; sys.path.insert(0, '/sandbox'); from inside.zygote import main; main(sys.argv[1:])"
NOBODY = 65534
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
ETC = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
OWN = (Path("/tmp"), Path("/proc"), Path("/dev"))
"""What every program has for itself."""
MISSING = (
    "programs that a model wrote are run in a sandbox, and this machine has none: {why}. Install bubblewrap (Debian: "
    "apt-get install bubblewrap) and allow user namespaces, without which there is no weaker sandbox but none (sysctl "
    "user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; in a "
    "container its own profile); --allow-unsafe-execution runs them with nothing but limits between them and your "
    "files, keys and network"
)


def command(mounts: Mounts, profile: int, counted: bool) -> list[str]:
    """Return the command that starts a sandbox's first process.

    Args:
        profile: a descriptor to read the outer profile of system calls from.
        counted: a control group counts the memory of programs.

    Raises:
        BadInput: bubblewrap isn't installed, or ``mounts`` names something that isn't there.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise BadInput(MISSING.format(why="'bwrap' isn't on the PATH"))
    root = os.geteuid() == 0
    if root:
        # as root a namespace of users would leave its processes root's own, whom no limit on processes holds: the
        # first process becomes somebody else instead
        options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN"):
            options += ["--cap-add", capability]
    else:
        options = ["--unshare-all"]
    options += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    for name, value in environment().items():
        options += ["--setenv", name, value]
    options += ["--proc", "/proc", "--dev", "/dev", "--size", str(16 << 20), "--tmpfs", "/tmp"]
    if not counted:
        options += ["--dev-bind", "/dev/null", "/dev/zero"]  # mapped, it is memory that can't be seen in processes
    for place in SYSTEM:
        if os.path.islink(place):
            options += ["--symlink", os.readlink(place), place]
    options += _bound(
        [(place, place) for place in (*SYSTEM, *ETC) if os.path.exists(place) and not os.path.islink(place)]
        + [(place, place) for place in _python()]
        + [(str(INSIDE), "/sandbox/inside")]
        + [(place, place) for place in _paths(mounts)]
        + [(str(place), f"/packages/{place.name}") for place in packages(mounts)]
    )
    # /dev is a file system of its own, and of whoever starts bubblewrap, as programs are
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--seccomp", str(profile)]
    return [bwrap, *options, "--", *_interpreter(), "separate", *([str(NOBODY)] if root else [])]


def bare_command() -> list[str]:
    """Return the command of a first process without walls."""
    return [*_interpreter(INSIDE.parent), "unsafe"]


def environment() -> dict[str, str]:
    """Return the whole environment of programs: nothing of ours."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",
        **threads,
        "ASAN_OPTIONS": "detect_leaks=0",
    }


def packages(mounts: Mounts) -> list[Path]:
    """Return the folders and files of the installed packages that programs may import.

    Raises:
        BadInput: one isn't installed here.
    """
    places: list[Path] = []
    for name in mounts.packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise BadInput(f"the package '{name}', which programs may import, isn't installed here: pip install {name}")
        place = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        places.append(place)
        libraries = place.with_name(f"{name}.libs")  # shared libraries that a wheel brings
        if libraries.is_dir():
            places.append(libraries)
    return places


def _paths(mounts: Mounts) -> list[str]:
    for place in mounts.paths:
        if not os.path.exists(place):
            raise BadInput(f"'{place}' is to be seen by programs in the sandbox, but doesn't exist")
        hidden = next((own for own in OWN if Path(os.path.abspath(place)).is_relative_to(own)), None)
        if hidden is not None:
            raise BadInput(
                f"'{place}' can't be seen by programs in the sandbox: each has a {hidden} of its own. Put it elsewhere"
            )
    return [os.path.abspath(place) for place in mounts.paths]


def _bound(places: list[tuple[str, str]]) -> list[str]:
    """Return the options that show files and folders, read-only, in folders that everybody can enter."""
    options: list[str] = []
    made = {"/"}
    for source, target in places:
        for parent in reversed(Path(target).parents):
            if str(parent) not in made:
                made.add(str(parent))
                options += ["--perms", "0755", "--dir", str(parent)]
        options += ["--ro-bind", source, target]
        made.add(target)
    return options


def _python() -> list[str]:
    """Return what of this Python isn't below /usr."""
    return [place for place in (sys.base_prefix,) if not Path(place).is_relative_to("/usr")]


def _interpreter(home: Path | None = None) -> list[str]:
    """Return the command of a bare interpreter: no site packages, no environment."""
    binary = os.path.realpath(sys.executable)
    start = START if home is None else START.replace("'/sandbox'", repr(str(home)))
    return [binary, "-I", "-S", "-B", "-X", "utf8", "-c", start]

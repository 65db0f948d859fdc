"""What a cluster elsewhere is sent: our five packages, and the files that the job reads from here."""

from __future__ import annotations

import shutil
from pathlib import Path

from jobs.submit.submission import Submission
from schemas.errors import BadInput
from schemas.installation import PACKAGES

LARGEST = 50 * 1024 * 1024
"""Bytes of all files together; more belongs under a root or in an object store."""
UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyc", "example.png", "static", "page")
"""The view's page stays: it is looked at from here."""


def pack(submission: Submission, target: Path) -> list[str]:
    """Copy what is to be sent into a folder; return the names of the files.

    Raises:
        BadInput: a file isn't there, is one of our packages' names, or all are too large.
    """
    home = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        shutil.copytree(home / name, target / name, ignore=UNWANTED)
    for name in own_files(submission):
        source = Path(submission.folder) / name
        if name.split("/")[0] in PACKAGES:
            raise BadInput(f"resources.files: '{name}' has the name of one of Gristmill's packages")
        if not source.exists():
            raise BadInput(f"resources.files: '{source}' doesn't exist")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=UNWANTED, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target / name)
    files = [path for path in target.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if size > LARGEST:
        raise BadInput(
            f"{size:,} bytes would be sent along (at most {LARGEST:,}): put large files where the cluster reads them, "
            "such as s3://, and name that in the settings"
        )
    return sorted(str(path.relative_to(target)) for path in files)


def own_files(submission: Submission) -> list[str]:
    """Return what goes along beside our packages: ``resources.files``, and a source of problems that lies here.

    Raises:
        BadInput: the source lies here under an absolute path, which wouldn't be the same there.
    """
    names = list(submission.job.resources.files)
    source = submission.job.settings.get("load", {}).get("source")
    if isinstance(source, str) and "://" not in source and (Path(submission.folder) / source).exists():
        if Path(source).is_absolute():
            raise BadInput(
                f"load.source '{source}' is a path of this machine; name it relative to the folder you submit in, "
                "or put it where the cluster reads it"
            )
        names.append(source)
    return list(dict.fromkeys(names))

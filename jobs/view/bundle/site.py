"""The folder of a bundle: the page with its files, and in ``data`` what it shows: JSON documents, tables as shards."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from cluster.storage.root import Root
from jobs.view.app import dumps, page_files
from jobs.view.bundle.elsewhere import for_others, without_places
from jobs.view.bundle.rows import Rows
from jobs.view.bundle.shards import Shards
from jobs.view.guard import POLICY
from jobs.view.shown import Shown
from schemas import __version__
from schemas.errors import BadInput

MARK = "gristmill-bundle.json"
"""The file by which a folder is known to be a bundle, and may be replaced."""
OURS = frozenset({MARK, "index.html", "static", "data"})
COMPARED = 8
"""The newest so many runs can be compared, each with each."""


def write_bundle(root: Root, runs: Sequence[str], folder: Path, say: Callable[[str], None]) -> None:
    """Write a bundle of some runs of a root into a folder; one that is there is replaced when the new one is whole.

    Args:
        runs: their ids; all of the root where there are none.

    Raises:
        BadInput: the folder has other files in it, the root has no runs, or a run's samples can't be read.
    """
    folder = folder.resolve()
    _refuse_what_is_not_ours(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shown = Shown(root)
    try:
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            _write(shown, runs, fresh, say)
            fresh.chmod(0o755)
            _put_in_place(fresh, folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    finally:
        shown.close()


def _refuse_what_is_not_ours(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder: say another")
    names = {one.name for one in folder.iterdir()}
    if names and (MARK not in names or names - OURS):
        others = sorted(names - OURS)
        what = f"has other files in it ('{others[0]}')" if others else "isn't a whole bundle"
        raise BadInput(f"{folder} {what}: say another folder")


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Let a new bundle take the place of an old one, which goes when the new one is there."""
    old = fresh.with_name(f"{fresh.name}.old")
    if folder.exists():
        try:
            folder.rename(old)
        except OSError as error:
            raise BadInput(f"{folder} can't be replaced ({error.strerror}): say a folder inside it") from error
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(shown: Shown, runs: Sequence[str], folder: Path, say: Callable[[str], None]) -> None:
    listed = shown.listed(runs)
    if not listed:
        raise BadInput("there are no runs to be bundled")
    (folder / "static").mkdir()
    (folder / "data").mkdir()
    for name, content in page_files().items():
        (folder / ("index.html" if name == "index.html" else f"static/{name}")).write_bytes(content)
    page = (folder / "index.html").read_text(encoding="utf-8")
    (folder / "index.html").write_text(_of_a_bundle(page), encoding="utf-8")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for number, line in enumerate(listed):
        say(f"{line['run_id']}: {line['samples'] or 0:,} samples")
        _write_run(shown, line["run_id"], folder / "data" / f"run-{number}")
    ids = [line["run_id"] for line in listed]
    (folder / "data" / "runs.json").write_bytes(dumps(listed))
    pairs = {
        f"{one},{other}": _compared(shown, one, other)
        for one in ids[:COMPARED]
        for other in ids[:COMPARED]
        if one != other
    }
    (folder / "data" / "compare.json").write_bytes(dumps(pairs))
    where = f"{len(ids):,} run{'s' if len(ids) > 1 else ''}, as of {now[:16].replace('T', ' ')} UTC"
    about = {"where": where, "kind": "bundle", "run": ids[0] if len(ids) == 1 else None, "version": __version__}
    (folder / "data" / "about.json").write_bytes(dumps(about))
    (folder / MARK).write_bytes(dumps({"made": now, "version": __version__, "runs": ids}))


def _of_a_bundle(page: str) -> str:
    """Return the page with its policy inside, as nobody sends it, and ahead of its script the one that reads shards."""
    inside = re.sub(r"frame-ancestors[^;]*", "", POLICY).strip("; ")
    head = f'<meta http-equiv="content-security-policy" content="{inside}">'
    page = page.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{head}')
    return page.replace(
        '<script src="static/main.js">', '<script src="static/bundle.js"></script>\n<script src="static/main.js">'
    )


def _compared(shown: Shown, one: str, other: str) -> dict[str, Any]:
    return without_places(shown.compare(f"{one},{other}")["differences"][0])


def _write_run(shown: Shown, run: str, folder: Path) -> None:
    folder.mkdir()
    with shown.watched(run).still():
        _write_still(shown, run, folder)


def _write_still(shown: Shown, run: str, folder: Path) -> None:
    watched = shown.watched(run)
    document = for_others(shown.document(run), watched.manifest)
    layout: dict[str, Any] = {"tables": {}}
    documents: dict[str, Any] = {"run": document, "experts": shown.experts(run), "failures": [], "policy": None}
    if watched.stage is not None:
        rows = Rows(shown.samples_of(run))
        layout = _write_rows(rows, folder)
        documents |= {
            "failures": without_places(shown.failures(run)),
            "policy": shown.policy(run),
            "names": rows.index.names,
        }
    for name, found in {"names": {}, **documents, "layout": {"run": run, **layout}}.items():
        (folder / f"{name}.json").write_bytes(dumps(found))


def _write_rows(rows: Rows, folder: Path) -> dict[str, Any]:
    """Write a run's tables; return where each row of them lies."""
    ordered = (
        "problem",
        "problem_key",
        "sample_index",
        "verdict",
        "status",
        "finish",
        "model",
        "kept",
        "trained",
        "chosen",
    )
    tables = {
        "lines": Shards(folder, "lines", (*ordered, "tokens", "score", "episode", "answer")),
        "texts": Shards(folder, "texts"),
        "episodes": Shards(folder, "episodes", ("problem", "episode")),
        "problems": Shards(folder, "problems"),
        "problem-texts": Shards(folder, "problem-texts"),
    }
    tables["problems"].add(rows.problems())
    for piece in rows.pieces():
        tables["lines"].add(piece.lines)
        tables["texts"].add(_without_places(piece.texts))
        tables["episodes"].add(piece.episodes)
        tables["problem-texts"].add(piece.problems)
    return {"tables": {name: table.finish() for name, table in tables.items()}}


def _without_places(texts: pl.DataFrame) -> pl.DataFrame:
    """Return texts whose errors say nothing of where a server or a file is."""
    if "error" not in texts.columns or texts["error"].null_count() == len(texts):
        return texts
    return texts.with_columns(pl.col("error").map_elements(without_places, return_dtype=pl.String))

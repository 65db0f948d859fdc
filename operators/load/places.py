"""From a path, a URL or a folder to the files that are meant, and of a data set with splits to the one asked for."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import difflib
import os
import re
import stat
from pathlib import Path
from typing import Any, cast

from operators.load.checks import Notes
from operators.load.formats import SUFFIXES, read_bytes, suffix_of
from operators.load.names import ANSWERING, ASKING, plain
from operators.load.rows import Rows, together
from schemas.errors import BadInput
from schemas.later import fsspec, pl

_SPLIT = re.compile(
    r"(?:^|[/_.-])(train|training|test|testing|validation|valid|val|dev|eval|evaluation|holdout)(?=[/_.-]|$)", re.I
)
_SHARD = re.compile(r"(?:^|/)([A-Za-z][\w.]*?)-\d{5}-of-\d{5}")
_PARTS = ("data", "part", "shard", "chunk", "file", "batch", "rows", "dataset")
"""Names of shards that say of no split."""
_ALIASES = (
    {"train", "training"},
    {"test", "testing"},
    {"validation", "valid", "val", "dev"},
    {"eval", "evaluation"},
)


def read_place(source: str, split: str | None, encoding: str | None, notes: Notes) -> Rows:
    """Return the rows of a file or a folder on any file system.

    Args:
        split: which split of a folder with several files of that name, of a JSON file with a table for each, or of
            rows with a column ``split``.

    Raises:
        BadInput: it doesn't exist, can't be read, or has splits of which none was asked for.
    """
    if (rows := _read_file(source, split, encoding, notes)) is not None:
        return rows
    try:
        fs, place = cast("tuple[Any, str]", cast(Any, fsspec).core.url_to_fs(source))
    except (ValueError, ImportError) as error:
        raise BadInput(f"'{source}' isn't a path or URL that can be read: {error}") from error
    if not fs.exists(place):
        raise BadInput(f"'{source}' doesn't exist{_near_files(source)}")
    if not fs.isdir(place):
        return _rows(_data(fs, place), source, split, encoding, notes)
    if fs.exists(f"{place}/_delta_log"):
        return Rows(pl.read_delta(source))
    return _read_folder(fs, place, source, split, encoding, notes)


def _read_file(source: str, split: str | None, encoding: str | None, notes: Notes) -> Rows | None:
    """Return the rows of a plain file of this machine, for which no library of file systems is needed; else None.

    Raises:
        BadInput: it can't be read.
    """
    if "://" in source or "::" in source:
        return None
    path = Path(os.path.expanduser(source))  # of a user whom nobody knows it is a name like any other
    try:
        if not path.is_file():
            return None
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"'{path}' can't be read: {error}") from error
    return _rows(data, source, split, encoding, notes)


def _rows(data: bytes, source: str, split: str | None, encoding: str | None, notes: Notes) -> Rows:
    rows = read_bytes(data, source, encoding, notes, split)
    return rows if split is None or _names(source, split) else _of_column(rows, split, source)


def _data(fs: Any, place: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        BadInput: it is no plain file (a pipe would be waited for, a device never ends), or can't be read.
    """
    if "file" in fs.protocol and not stat.S_ISREG(os.stat(place).st_mode):
        raise BadInput(f"'{place}' is no plain file (a pipe, or a device): copy what it says into one first")
    try:
        return fs.cat_file(place)
    except OSError as error:
        raise BadInput(f"'{place}' can't be read: {error}") from error


def _read_folder(fs: Any, place: str, source: str, split: str | None, encoding: str | None, notes: Notes) -> Rows:
    found = [str(path) for path in fs.find(place)]
    within = {path: path[len(place) :].lstrip("/") for path in found}
    parts = [path for path in sorted(found) if not _hidden(within[path])]
    kinds = [suffix for suffix in SUFFIXES if any(suffix_of(path) == suffix for path in parts)]
    if not kinds:
        raise BadInput(f"the folder '{source}' holds no Parquet files, and none of {', '.join(SUFFIXES[1:])}")
    wanted = [path for path in parts if suffix_of(path) == kinds[0]]
    if len(kinds) > 1:
        others = sum(suffix_of(path) in kinds[1:] for path in parts)
        notes.say(f"of the folder '{source}' the {len(wanted)} {kinds[0]} file(s) are read, {others} others aren't")
    wanted = _of_split(wanted, within, split, source)
    _refuse_configurations(wanted, within, source)
    tables = {within[path]: read_bytes(_data(fs, path), path, encoding, notes) for path in wanted}
    _refuse_other_questions(tables, source)
    rows = together([*tables.values()], source)
    named = split is None or any(split_of(within[path]) is not None for path in wanted)
    return rows if named else _of_column(rows, split, source)


def _names(path: str, split: str) -> bool:
    """Whether a file's own name says that it is of a split."""
    own = split_of(path.rpartition("/")[2])
    return own is not None and own.lower() in _same(split)


def _same(split: str) -> set[str]:
    return next((group for group in _ALIASES if split.lower() in group), {split.lower()})


def _of_column(rows: Rows, split: str | None, source: str) -> Rows:
    """Return the rows whose ``split`` is that one; of a table that was chosen by it, all."""
    if split is None or rows.split == split:
        return rows
    texts = rows.texts("split", source) if "split" in rows.columns and not rows.is_nested("split") else None
    if texts is None:
        raise BadInput(
            f"'{source}' has no split '{split}': neither its name nor a column 'split' says so. Leave it out"
        )
    there = texts.str.to_lowercase().is_in([*_same(split)]).fill_null(False)
    if not there.any():
        counts = texts.value_counts(sort=True).head(10).iter_rows()
        raise BadInput(
            f"'{source}' has no split '{split}'; its column 'split' has "
            + ", ".join(f"{name} ({count} rows)" for name, count in counts)
        )
    return rows.take(there.arg_true().to_list())


def _refuse_configurations(paths: list[str], within: dict[str, str], source: str) -> None:
    """Refuse a data set whose configurations are folders of their own: they ask the same, or something else, anew.

    Raises:
        BadInput: files that name the same split lie in several folders.
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(_configuration(within[path]), []).append(path)
    named = sorted(name for name in folders if name)
    splits = [split_of(within[path]) for name in named for path in folders[name]]
    if len(folders) > 1 and None not in splits:
        listed = ", ".join(
            f"{name or '.'} ({len(files)} file{'s'[: len(files) > 1]})" for name, files in sorted(folders.items())
        )
        raise BadInput(
            f"the folder '{source}' has several configurations: {listed}. Say which: load.source={source}/{named[0]}"
        )


def _configuration(path: str) -> str:
    """Return the folders above what names a file's split: ``main`` of ``main/train/0.parquet``."""
    parents = path.split("/")[:-1]
    above = next((place for place, part in enumerate(parents) if split_of(part + "/") is not None), len(parents))
    return "/".join(part for part in parents[:above] if "=" not in part)


def _refuse_other_questions(tables: dict[str, Rows], source: str) -> None:
    """Refuse files that ask, or say what is right, in columns of other names: nobody knows which are meant.

    Raises:
        BadInput: naming the first two of them.
    """
    for what, known in (("asks", ASKING), ("has its answers", ANSWERING)):
        seen: dict[str, tuple[str, ...]] = {}
        for path, rows in tables.items():
            own = tuple(name for name in rows.columns if plain(name) in known)
            other = next((at for at, names in seen.items() if own and names and not {*own} & {*names}), None)
            if other is not None:
                raise BadInput(
                    f"the folder '{source}' holds files of several kinds: {other} {what} in {_listed(seen[other])}, "
                    f"{path} in {_listed(own)}. Load them one by one: load.source={source.rstrip('/')}/{path}"
                )
            seen[path] = own


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def split_of(path: str) -> str | None:
    """Return which split a file's path names: ``train`` of ``data/train-00000-of-00002.parquet``."""
    shard = _SHARD.search(path)
    name = "" if shard is None else shard[1].rpartition("/")[2]
    if name and name.lower() not in _PARTS:
        return name
    stem = path[: len(path) - len("".join(Path(path).suffixes[-2:]))] if Path(path).suffixes else path
    named = _SPLIT.findall(stem)
    return named[-1] if named else None


def _of_split(paths: list[str], within: dict[str, str], split: str | None, source: str) -> list[str]:
    splits: dict[str | None, list[str]] = {}
    for path in paths:
        splits.setdefault(split_of(within[path]), []).append(path)
    names = sorted(name for name in splits if name is not None)
    counts = ", ".join(f"{name} ({len(splits[name])} file{'s' if len(splits[name]) > 1 else ''})" for name in names)
    if None in splits and names:
        counts += f", and {len(splits[None])} file(s) of no split"
    if split is None:
        if len(splits) == 1:
            return paths
        raise BadInput(f"the folder '{source}' has several splits: {counts}. Say which: load.split={names[0]}")
    chosen = [name for name in names if name == split] or [name for name in names if name.lower() in _same(split)]
    if not chosen and not names:
        return paths  # their rows may say it
    if not chosen:
        raise BadInput(f"the folder '{source}' has no split '{split}'; it has {counts}")
    return [path for name in chosen for path in splits[name]]


def _near_files(source: str) -> str:
    folder = Path(source).parent
    if "://" in source or not folder.is_dir():
        return ""
    near = difflib.get_close_matches(Path(source).name, [path.name for path in folder.iterdir()], n=1)
    return f"; did you mean '{folder / near[0]}'?" if near else ""

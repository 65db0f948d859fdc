"""Values that are rarer than numbers and lists, and cross as what they are too: dates, paths, patterns, classes."""

from __future__ import annotations

import array
import builtins
import sys
from collections.abc import Callable
from typing import Any

Each = Callable[[Any], Any]
"""Encodes or decodes what is in a value."""


def encode(value: Any, each: Each) -> dict[str, Any] | None:
    """Return a value as JSON, None if it is of no kind known here.

    What a subclass of the program's says of itself isn't asked: values are read by the methods of Python's own classes.
    """
    for module, name, write in _KINDS:
        known: Any = sys.modules.get(module)
        if known is not None and isinstance(value, getattr(known, name)):
            return write(value, each)
    if isinstance(value, type):
        return _class(value)
    if value is Ellipsis or value is NotImplemented:
        return {"k": str(value)}
    if isinstance(value, slice):
        return {"S": [each(part) for part in (value.start, value.stop, value.step)]}
    return None


def decode(data: dict[str, Any], each: Each, kept: Each) -> Any:
    """Return the value that ``encode`` wrote.

    Args:
        kept: what a reference stands for: the value where this process doesn't know its class.

    Raises:
        Exception: of any kind, for data that ``encode`` can't have written.
    """
    tag, content = next(iter(data.items()))
    match tag:
        case "date" | "datetime" | "time" | "timedelta" | "timezone" | "zone":
            return _moment(tag, content)
        case "uuid":
            import uuid

            return uuid.UUID(int=int(content, 16))
        case "path":
            import pathlib

            name, text = content
            known = {
                kind.__name__: kind for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath)
            }
            return known[name](text)
        case "pattern":
            import re

            return re.compile(each(content[0]), content[1])
        case "a":
            return array.array(content[0], bytes.fromhex(content[1]))
        case "view":
            return getattr(
                dict(each(content[1])) if content[0] != "keys" else dict.fromkeys(each(content[1])), content[0]
            )()
        case "k":
            return {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}[content]
        case "S":
            return slice(*(each(part) for part in content))
        case "y" | "e":
            found = _known(content, tag)
            return kept(data) if found is None else found
        case _:
            return kept(data)


def _class(value: type) -> dict[str, Any] | None:
    """Return a class of Python's own by its name."""
    module, name = str(value.__module__), str(value.__qualname__)
    if module in ("program", "__main__"):
        return None
    there: Any = sys.modules.get(module)
    return {"y": [module, name]} if getattr(there, name, None) is value and module == "builtins" else None


def _known(content: Any, tag: str) -> Any:
    """Return the class, or the member of an enumeration, that Python itself knows by a name; None for others."""
    module, name = str(content[0]), str(content[1])
    if tag == "y":
        found = getattr(builtins, name, None)
        return found if isinstance(found, type) else None
    from enum import Enum

    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    kind = getattr(sys.modules.get(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return None
    return kind.__members__.get(str(content[2]))


def _moment(tag: str, content: Any) -> Any:
    import datetime

    match tag:
        case "date":
            return datetime.date(*content)
        case "timedelta":
            return datetime.timedelta(*content)
        case "datetime":
            *parts, fold, zone = content
            return datetime.datetime(*parts, fold=fold, tzinfo=zone and _moment(*next(iter(zone.items()))))
        case "time":
            *parts, fold, zone = content
            return datetime.time(*parts, fold=fold, tzinfo=zone and _moment(*next(iter(zone.items()))))
        case "zone":
            import zoneinfo

            try:
                return zoneinfo.ZoneInfo(content[0])
            except (zoneinfo.ZoneInfoNotFoundError, ValueError):
                return _moment("timezone", content[1])
        case _:
            seconds, name = content
            offset = datetime.timedelta(seconds=seconds)
            return (
                datetime.UTC if not seconds and name is None else datetime.timezone(offset, *([name] if name else []))
            )


def _zone(zone: Any, moment: Any) -> Any:
    """Return a time zone; one of the program's own as its distance from UTC at that moment."""
    if zone is None:
        return None
    import datetime

    offset = zone.utcoffset(moment if isinstance(moment, datetime.datetime) else None)
    seconds = 0.0 if offset is None else offset.total_seconds()
    known: Any = sys.modules.get("zoneinfo")
    if known is not None and isinstance(zone, known.ZoneInfo) and zone.key:
        return {"zone": [str(zone.key), [seconds, None]]}
    if offset is None:
        return None
    name = datetime.timezone.tzname(zone, None) if isinstance(zone, datetime.timezone) else None
    return {"timezone": [seconds, None if name is None or name.startswith("UTC") else name]}


def _read(kind: Any, names: str) -> Callable[[Any], list[Any]]:
    """Return a function that reads attributes of a value as a class of Python's own knows them."""
    return lambda value: [getattr(kind, name).__get__(value) for name in names.split()]


def _write_moment(value: Any, _: Each) -> dict[str, Any]:
    import datetime as d

    if isinstance(value, d.datetime):
        parts = _read(d.datetime, "year month day hour minute second microsecond fold")(value)
        return {"datetime": [*parts, _zone(d.datetime.tzinfo.__get__(value), value)]}  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, d.date):
        return {"date": _read(d.date, "year month day")(value)}
    if isinstance(value, d.time):
        parts = _read(d.time, "hour minute second microsecond fold")(value)
        return {"time": [*parts, _zone(d.time.tzinfo.__get__(value), value)]}  # pyright: ignore[reportAttributeAccessIssue]
    return {"timedelta": _read(d.timedelta, "days seconds microseconds")(value)}


def _write_zone(value: Any, _: Each) -> dict[str, Any] | None:
    return _zone(value, None)


def _write_path(value: Any, _: Each) -> dict[str, Any]:
    import pathlib

    kinds = (pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
    kind = next((kind for kind in kinds if isinstance(value, kind)), pathlib.PurePosixPath)
    return {"path": [kind.__name__, pathlib.PurePath.__str__(value)]}


_KINDS: tuple[tuple[str, str, Callable[[Any, Each], dict[str, Any] | None]], ...] = (
    ("datetime", "date", _write_moment),
    ("datetime", "time", _write_moment),
    ("datetime", "timedelta", _write_moment),
    ("datetime", "tzinfo", _write_zone),
    ("uuid", "UUID", lambda value, _: {"uuid": hex(value.int)}),
    ("pathlib", "PurePath", _write_path),
    ("re", "Pattern", lambda value, each: {"pattern": [each(value.pattern), value.flags]}),
    ("array", "array", lambda value, _: {"a": [value.typecode, array.array.tobytes(value).hex()]}),
    ("_collections_abc", "dict_keys", lambda value, each: {"view": ["keys", each([*value])]}),
    ("_collections_abc", "dict_items", lambda value, each: {"view": ["items", each([*value])]}),
)
"""(module, class, how it is written); a module that isn't loaded made no value."""

"""Reading YAML that somebody else wrote: bounded in depth and size, without cycles, every key once.

An alias that is used again and again makes a small text a huge document, and one that stands inside what it names never
ends: both are seen from the nodes, before anything is built.
"""

from __future__ import annotations

import os
import stat
from typing import Any

import yaml

DEEPEST = 64
"""How deep values may be nested."""
LARGEST = 1024 * 1024
"""Characters of a text at most."""
MOST = 100_000
"""Values of a document at most, each alias counted with all that it stands for."""

NO_WORDS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")
"""Tags of keys that are meant as words: yes, no, on, off, null."""

_yaml: Any = yaml  # its types are incomplete
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: str) -> str:
    """Return the text of a small local file.

    Raises:
        OSError: there is no such file, or it is no plain one: a pipe would be waited for, a device never ends.
        ValueError: it isn't UTF-8.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"'{path}' is no plain file")
    with open(path, encoding="utf-8") as file:
        return file.read(LARGEST + 1)


def load_yaml(text: str) -> Any:
    """Return what a YAML text says: plain values, lists and mappings.

    Raises:
        ValueError: it isn't YAML, or isn't reasonable; the message has the line where there is one.
    """
    if len(text) > LARGEST:
        raise ValueError(f"it has {len(text):,} characters; more than {LARGEST:,} aren't read")
    try:
        _check_depth(text)
        node = _yaml.compose(text, _Loader)
        if node is None:
            return None
        _size(node, {}, set())
        return _construct(text)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where}{error.problem or error}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check_depth(text: str) -> None:
    """Refuse deep nesting while it is only a stream of events: building the nodes takes as many calls as it is deep."""
    depth = 0
    for event in _yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"line {event.start_mark.line + 1}: values are nested more than {DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _size(node: yaml.Node, known: dict[int, int], inside: set[int]) -> int:
    """Return how many values a node stands for."""
    if id(node) in known:
        return known[id(node)]
    line = f"line {node.start_mark.line + 1}: "
    if id(node) in inside:
        raise ValueError(f"{line}a value that contains itself")
    inside.add(id(node))
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    size = 1
    for child in children:
        size += _size(child, known, inside)
        if size > MOST:
            raise ValueError(f"{line}more than {MOST:,} values, aliases counted with all that they stand for")
    inside.discard(id(node))
    known[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.tag in NO_WORDS:
                raise ValueError(
                    f"line {key.start_mark.line + 1}: YAML takes the key {key.value} for a value, not for a word; "
                    f'put it in quotes: "{key.value}"'
                )
            known = (key.tag, str(key.value))
            if known in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: the key '{key.value}' stands here twice")
            seen.add(known)


def _construct(text: str) -> Any:
    try:
        return _yaml.load(text, _Loader)
    except ValueError as error:  # Python's own limit on the digits of an integer, a date that doesn't exist
        raise ValueError(f"a value can't be read: {error}") from error
    except RecursionError as error:
        raise ValueError("a value that contains itself") from error

"""Contents of turns: one text, or parts of which each is a text or says where its image, sound, film or file is.

Anthropic's parts become what OpenAI's messages have for them: ``tool_use`` a tool call, ``tool_result`` a turn of the
tool, ``thinking`` the thought of the turn, an image's ``source`` its URL (bytes in Base64 a ``data:`` URL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

TEXTS = ("text", "input_text", "output_text")
REFERENCES = ("image_url", "image", "url", "path", "audio_url", "video_url", "video", "audio", "file", "input_audio")
"""Fields of a part that say where its image (sound, film, file) is."""
_ABOUT = ("detail", "format", "type", "media_type", "mime_type", "filename")
"""Fields of such a place that say something of its content, and not where it is."""
_CALL, _RESULT, _THOUGHT = "tool_use", "tool_result", "thinking"

Part = dict[str, Any]


class NotATurn(ValueError):
    """What can't be read as a turn. ``row`` counts from 0 where a whole column was read."""

    def __init__(self, message: str, row: int = 0) -> None:
        super().__init__(message)
        self.row = row


def content_of(content: Any) -> tuple[str, list[Part] | None]:
    """Return a content as text, and its parts where it is more than one text.

    Raises:
        NotATurn: saying what is wrong with it.
    """
    if isinstance(content, str):
        return content, None
    if isinstance(content, int | float) and not isinstance(content, bool):
        return str(content), None
    if not isinstance(content, Sequence):
        raise NotATurn("has a content that is neither text nor a list of parts")
    parts = [_part(part) for part in cast("Sequence[Any]", content)]
    text = "\n".join(str(part["text"]) for part in parts if part["type"] == "text")
    plain = len(parts) < 2 and all(set(part) == {"type", "text"} for part in parts)
    return text, None if plain else parts


def spread(message: Any) -> list[Any]:
    """Return a message with Anthropic's parts as the messages that OpenAI has for it; any other as it is.

    Raises:
        NotATurn: a call or a result without what tells whose it is.
    """
    content: Any = cast("Mapping[str, Any]", message).get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return [message]
    parts: list[Any] = [without_nulls(part) for part in cast("list[Any]", content)]
    kinds = [str(cast("Part", part).get("type")) if isinstance(part, dict) else "" for part in parts]
    if not {_CALL, _RESULT, _THOUGHT} & {*kinds}:
        return [message]
    of = {
        kind: [part for part, other in zip(parts, kinds, strict=True) if other == kind]
        for kind in (_CALL, _RESULT, _THOUGHT)
    }
    rest = [part for part, kind in zip(parts, kinds, strict=True) if kind not in of]
    results = [_result(part) for part in of[_RESULT]]
    own: dict[str, Any] = {**message, "content": rest}
    if of[_CALL]:
        own["tool_calls"] = [
            {"id": part.get("id"), "function": {"name": part.get("name"), "arguments": part.get("input")}}
            for part in of[_CALL]
        ]
    if of[_THOUGHT]:
        own["reasoning_content"] = "\n".join(str(part.get(_THOUGHT, "")) for part in of[_THOUGHT])
    return [*results, *([own] if rest or of[_CALL] or of[_THOUGHT] else [])]


def _result(part: Part) -> Part:
    if not part.get("tool_use_id"):
        raise NotATurn(f"has a part of type '{_RESULT}' without a 'tool_use_id'")
    return {"role": "tool", "tool_call_id": part["tool_use_id"], "content": part.get("content", "")}


def _part(part: Any) -> Part:
    """Return one part of a content: text, or something that is referred to."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise NotATurn("has a part that is neither text nor an object such as {type, text}")
    found: Part = without_nulls(cast("Mapping[Any, Any]", part))
    kind = str(found.get("type") or ("text" if "text" in found else ""))
    if kind in TEXTS:
        if not isinstance(found.get("text"), str):
            raise NotATurn("has a part of type 'text' without a text")
        return {**found, "type": "text"}
    if not kind:
        raise NotATurn("has a part without a type")
    if isinstance(found.get("source"), dict):
        return {"type": "image_url", "image_url": {"url": _url(kind, found["source"])}}
    if not any(_refers(found.get(name)) for name in REFERENCES):
        raise NotATurn(
            f"has a part of type '{kind}' that says nowhere where its content is: give a reference, such as "
            '{"type": "image_url", "image_url": {"url": "https://..."}}; bytes are not taken'
        )
    return {**found, "type": kind}


def _url(kind: str, source: Part) -> str:
    """Return the URL of what Anthropic's messages have as the ``source`` of an image."""
    if kind == "image" and source.get("url"):
        return str(source["url"])
    if kind == "image" and source.get("data") and source.get("media_type"):
        return f"data:{source['media_type']};base64,{source['data']}"
    raise NotATurn(
        f"has a part of type '{kind}' whose source is no image's URL or Base64: give what it says as text, or a "
        'reference such as {"type": "file", "file": {"file_id": "..."}}'
    )


def _refers(value: Any) -> bool:
    if isinstance(value, Mapping):
        places = {name: item for name, item in cast("Mapping[str, Any]", value).items() if name not in _ABOUT}
        items = [*places.values()]
        return any(isinstance(item, str) and item for item in items) and not any(isinstance(i, bytes) for i in items)
    return isinstance(value, str) and bool(value)


def without_nulls(value: Any) -> Any:
    """Return a value without the nulls of its objects: in tables, each has the names of all rows'."""
    if isinstance(value, Mapping):
        return {k: without_nulls(item) for k, item in cast("Mapping[str, Any]", value).items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in cast("list[Any]", value)]
    return value

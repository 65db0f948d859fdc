"""Texts that can be written: what comes from outside may hold half a character."""

from __future__ import annotations


def whole(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair that stands alone; pairs become their character.

    JSON may say ``\\ud83d`` where a server cut an emoji in two; no file and no table takes that.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text

"""Texts as sets of hashed word n-grams ("shingles"), computed for many texts at once.

A batch is two arrays: the hashes of all texts one after the other, and where each text's begin (``offsets``, one more
than there are texts). Hashes are the same on every machine and in every version: xxh3 of the words, combined.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import Any, cast

import xxhash

from schemas.later import Floats, Hashes, Ints, np, pl

Offsets = Ints
Flat = tuple[Hashes, Offsets]

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Letters of scripts that don't part words: each is a word."""
WORD = rf"{UNSPACED}|[[\p{{L}}\p{{M}}]--{UNSPACED}]+|\p{{N}}+"
SYMBOL = r"[^\s\p{L}\p{M}\p{N}\p{C}]"
ODD = 0x9E3779B97F4A7C15


def normalised(text: pl.Expr, *, mask_numbers: bool = False) -> pl.Expr:
    """Return texts as they are compared: lower case, compatibility forms united (NFKC).

    Args:
        mask_numbers: put every run of digits (with its decimal and thousands points) as ``0``, so that a text and the
            same text with other numbers are one.
    """
    plain = text.str.normalize("NFKC").str.to_lowercase()
    return plain.str.replace_all(r"\p{N}+(?:[.,]\p{N}+)*", "0") if mask_numbers else plain


def words(text: pl.Expr, *, symbols: bool = False) -> pl.Expr:
    """Return the words of normalised texts as lists: runs of letters, and of digits; all else only parts them.

    Args:
        symbols: every other sign that isn't blank is a word too, as sums and programs need it.
    """
    return text.str.extract_all(f"{WORD}|{SYMBOL}" if symbols else WORD)


def hashed_words(lists: pl.Series) -> Flat:
    """Return the hashes of the words of each list."""
    offsets = np.concatenate([[0], lists.list.len().fill_null(0).cum_sum().to_numpy()]).astype(np.int64)
    said = lists.filter(lists.list.len() > 0).explode()
    encoded: Any = cast(Any, said.to_arrow()).dictionary_encode()
    known: list[str] = encoded.dictionary.to_pylist()
    vocabulary = np.array([xxhash.xxh3_64_intdigest(word.encode()) for word in known], dtype=np.uint64)
    codes: Ints = encoded.indices.to_numpy(zero_copy_only=False)
    return (vocabulary[codes] if len(codes) else np.zeros(0, np.uint64)), offsets


def ngrams(flat: Flat, n: int) -> Flat:
    """Return the hashes of all runs of ``n`` words of each text; a shorter text is one run of all its words."""
    hashes, offsets = flat
    lengths = np.diff(offsets)
    counts = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    out = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    grams = np.zeros(out[-1], np.uint64)
    starts: Offsets = np.repeat(offsets[:-1] - out[:-1], counts) + np.arange(len(grams))
    size = np.repeat(np.minimum(lengths, n), counts)
    for step in range(int(size.max(initial=0))):
        here = size > step
        if here.all():
            grams = grams * np.uint64(ODD) + hashes[starts + step]
        else:
            grams[here] = grams[here] * np.uint64(ODD) + hashes[starts[here] + step]
    return mixed(grams), out


def mixed(hashes: Hashes) -> Hashes:
    """Return hashes whose bits depend on all bits of the given ones (splitmix64's finaliser)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def repetition(flat: Flat, n: int) -> Floats:
    """Return the share of each text's n-grams that are there a second time or more often; 0 for short texts."""
    grams, offsets = ngrams(flat, n)
    counts = np.diff(offsets)
    text = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((grams, text))
    again = (grams[order][1:] == grams[order][:-1]) & (text[order][1:] == text[order][:-1])
    repeats = np.bincount(text[order][1:][again], minlength=len(counts))
    return repeats / np.maximum(counts, 1)

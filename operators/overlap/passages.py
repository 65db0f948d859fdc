"""Texts as sequences of words that weigh, and the hashes of all their runs of some weight.

A run is worth what it says: thirteen English words are a quotation, thirteen Han characters a phrase. Words and numbers
weigh ``WORD``; Han, Kana and Hangul have no blanks between words, or write long ones, and there a *word* is two
characters: tokenisers of language models make about 1.3 tokens of an English word and 0.6 to 0.8 of such a character.
Letters of Thai, Lao, Khmer and Burmese weigh a quarter of a word. Signs of arithmetic are words of no weight: they tell
``17 + 25`` from ``17 * 25``, and make nothing longer.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import xxhash

from operators.overlap.shingles import ODD, Offsets, mixed, normalised
from schemas.later import Bools, Hashes, Ints, NDArray, np, pl

WORD = 4
"""The weight of a word, in quarters."""
CHARACTER = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー"
SYLLABLE = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
SIGN = r"[-+*/=<>^%√±≤≥≠≈]"
BREAK = r'\n+|[?!"`“”«»「」『』|]+|[.:;]+[)\]$_]*(?:\s|$)'
"""What parts one saying from the next."""
TOKEN = rf"[{CHARACTER}{SYLLABLE}]|[[\p{{L}}\p{{M}}]--[{CHARACTER}{SYLLABLE}]]+|\p{{N}}+|{BREAK}|{SIGN}"
_ALIKE = {
    r"[\u{ff1f}\u{ff01}\u{3002}\u{ff1a}\u{ff1b}]": "\n",  # full-width marks, which no blank follows
    r"(?m)^\s*(?:[-*+#>]+\s+)+": "\n",
    r"\*\*+|__+": " ",
    r"\\(?:times|cdot)\b|[\u{d7}\u{b7}\u{22c5}]": "*",
    r"[\u{2212}\u{2013}]": "-",
    r"\u{f7}": "/",
    r"(?m)=[ \t]*[?_]*[ \t]*$": "\n",
}
INVERSE = pow(ODD, -1, 2**64)

NUMBER, LETTER = 1, 2
"""The kinds of all numbers, and of all letters that stand alone."""

Flags = Bools
Places = Ints


def tokens(text: pl.Expr, *, mask_numbers: bool = False) -> pl.Expr:
    """Return the words, signs and breaks of texts as lists; case, compatibility forms and markup don't count."""
    plain = text
    for pattern, put in _ALIKE.items():
        plain = plain.str.replace_all(pattern, put)
    for _ in range(2):  # neighbours share a digit or a letter
        plain = plain.str.replace_all(r"(\d),(\d{3})\b", "$1$2").str.replace_all(r"(\p{L})-(\p{L})", "$1 $2")
    return normalised(plain, mask_numbers=mask_numbers).str.extract_all(TOKEN)


@dataclass(frozen=True)
class Passages:
    """The words and signs of many texts, one after the other.

    Attributes:
        hashes: of each word.
        kinds: the same, but all numbers are one, and all single letters: what phrases are known by.
        weights: in quarters of a word.
        tells: whether it says something: no sign, and neither a single letter nor one of the words given as empty.
        begins: whether a saying begins with it; one more than there are words.
        offsets: where each text's words begin; one more than there are texts.
        places: its place among the tokens of its text.
    """

    hashes: Hashes
    kinds: Hashes
    weights: Places
    tells: Flags
    begins: Flags
    offsets: Offsets
    places: Places

    @staticmethod
    def of(lists: pl.Series, empty: frozenset[str] = frozenset()) -> Passages:
        """Read lists of ``tokens``."""
        lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        encoded: Any = cast(Any, lists.filter(lists.list.len() > 0).explode().to_arrow()).dictionary_encode()
        known = pl.Series(encoded.dictionary.to_pylist(), dtype=pl.String)
        codes: Places = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        digests = np.array([xxhash.xxh3_64_intdigest(word.encode()) for word in known], dtype=np.uint64)
        number, letter = (known.str.contains(f"^{kind}$").to_numpy() for kind in (r"\p{N}+", r"[\p{Latin}\p{Greek}]"))
        sign = known.str.contains(f"^{SIGN}$").to_numpy()
        word = known.str.contains(r"^[\p{L}\p{M}\p{N}ー]").to_numpy()
        weights = np.where(word, WORD, 0)
        weights[known.str.contains(f"^[{CHARACTER}]$").to_numpy()] = WORD // 2
        weights[known.str.contains(f"^[{SYLLABLE}]$").to_numpy()] = WORD // 4
        alone = np.where(letter, np.uint64(LETTER), digests)
        kinds = np.where(number, np.uint64(NUMBER), alone) if len(known) else digests
        tells = word & ~letter & ~known.is_in(list(empty)).to_numpy()
        kept = (word | sign)[codes] if len(codes) else np.zeros(0, bool)
        counts = np.concatenate([[0], np.cumsum(kept)])
        offsets = counts[bounds]
        at = np.flatnonzero(kept)
        text = np.repeat(np.arange(len(lengths)), lengths)
        begins = np.ones(len(at) + 1, bool)
        begins[1:-1] = np.diff(at) > 1
        begins[offsets] = True
        chosen = codes[at]
        return Passages(
            digests[chosen], kinds[chosen], weights[chosen], tells[chosen], begins, offsets, at - bounds[text[at]]
        )

    @cached_property
    def texts(self) -> Places:
        """Which text each word is of."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def only(self, wanted: Flags) -> Passages:
        """Return the texts with some of their words alone."""
        counts = np.concatenate([[0], np.cumsum(wanted)])
        return Passages(
            self.hashes[wanted], self.kinds[wanted], self.weights[wanted], self.tells[wanted],
            np.append(self.begins[:-1][wanted], True), counts[self.offsets], self.places[wanted],
        )  # fmt: skip

    def sums(self, values: NDArray[Any]) -> Places:
        """Return the sum of each text's values."""
        total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return total[self.offsets[1:]] - total[self.offsets[:-1]]

    def runs(self, weight: int, *, kinds: bool = False) -> tuple[Places, Places, Hashes]:
        """Return the runs that just reach a weight: where each begins and ends, and its hash.

        A run begins at every word that weighs and ends within its text.
        """
        total, first = self._total, self._first
        last = np.searchsorted(total, total[first] + weight)
        inside = last <= self.offsets[self.texts[first] + 1]
        first, last = first[inside], last[inside]
        return first, last, self.spans(first, last, kinds=kinds)

    def spans(self, first: Places, last: Places, *, kinds: bool = False) -> Hashes:
        """Return hashes of the words (or their kinds) from ``first`` up to ``last``, equal wherever they stand."""
        # powers of an odd number have inverses modulo 2^64: sums up to any place give the hash of any span
        sums = self._kind_sums if kinds else self._word_sums
        return mixed((sums[last] - sums[first]) * self._inverse[first] + (last - first).astype(np.uint64))

    @cached_property
    def _total(self) -> Places:
        return np.concatenate([[0], np.cumsum(self.weights)])

    @cached_property
    def _first(self) -> Places:
        return np.flatnonzero(self.weights > 0)

    @cached_property
    def _word_sums(self) -> Hashes:
        return self._summed(self.hashes)

    @cached_property
    def _kind_sums(self) -> Hashes:
        return self._summed(self.kinds)

    @cached_property
    def _inverse(self) -> Hashes:
        return _powers(INVERSE, len(self.hashes))

    def _summed(self, values: Hashes) -> Hashes:
        return np.concatenate([[np.uint64(0)], np.cumsum(values * _powers(ODD, len(values))[:-1], dtype=np.uint64)])


def _powers(base: int, count: int) -> Hashes:
    return np.multiply.accumulate(
        np.concatenate([[np.uint64(1)], np.full(count, base, dtype=np.uint64)]), dtype=np.uint64
    )


def covered(size: int, first: Places, last: Places) -> Flags:
    """Return which of ``size`` words lie in one of some runs."""
    depth = np.bincount(first, minlength=size + 1) - np.bincount(last, minlength=size + 1)
    return np.cumsum(depth)[:-1] > 0


def among(values: Hashes, known: Hashes) -> Flags:
    """Return which values are in a sorted array."""
    if not len(known):
        return np.zeros(len(values), bool)
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values

"""From an answer as it is written to what it says: numbers, units, lists, intervals, times, words.

In comes the text of one answer, and what its question asks (``asks``). Out comes a tree (``tree``) that ``compare``
judges against an expected one, and that ``keys`` writes as a canonical key. Nothing here needs a computer algebra
system: what does is left in the tree as a formula for ``operators.verify.reading.symbolic``.
"""

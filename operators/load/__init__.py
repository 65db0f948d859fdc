"""Loading: a source of any shape comes in, problems under one contract come out, and nothing is lost without a word.

From bytes to problems, one file a step: ``places`` (which files, which split), ``formats`` and ``json_rows`` (bytes to
rows), ``names`` (which column is what), ``turns`` (conversations), ``options`` (multiple choice), ``golds`` (answers),
``checks`` (what is refused, what is told). ``load`` has the operator and its settings; ``recorded`` reads other
tools' samples for ``gristmill op``.
"""

from operators.load.load import Load

__all__ = ["Load"]

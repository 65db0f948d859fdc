"""``gristmill view``: a server on this machine and one page, for watching runs and reading samples while they come.

``serve`` opens the port, ``guard`` decides who may ask, ``app`` says what there is to ask, and a module each answers.
What a model wrote travels as text in JSON and is text in the page. Nothing here writes to a root, but ``acting``, which
is there with ``--control`` alone.
"""

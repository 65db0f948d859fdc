"""``gristmill view --bundle DIR``: the view of some runs as files that any web server hands out; nothing runs there.

``site`` lays out the folder, ``rows`` reads what is shown of a run a few problems at a time, and ``shards`` writes it
as Parquet that the page reads in the browser (``infra/view/src/bundle``). A bundle holds texts, so it is as
confidential as the root.
"""

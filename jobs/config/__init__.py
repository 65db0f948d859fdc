"""From files and ``--set`` to a checked job."""

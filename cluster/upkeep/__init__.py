"""Looking after a root between runs: garbage, retention, verification, repair, gathering.

Comes in: a root. Goes out: what was found, freed or mended. It never touches what a live run's view names.
"""

"""The report of a run: one self-contained HTML page, made by ``jobs.report.build`` (which loads a plotting library)."""

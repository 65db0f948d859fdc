"""Who starts it: the command line, job files, progress, summaries and reports."""

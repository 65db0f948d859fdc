"""Who starts it: the command line, job files, progress, summaries and reports."""

import cluster as cluster  # before anything imports Polars: its allocator is told what to do when it is loaded

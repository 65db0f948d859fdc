"""What happens inside a worker: tasks, engine workers, merges of files.

Comes in: a small picklable description. Goes out: names of files that were written, and counts; texts never pass the
driver. The driver sends these and never waits in them.
"""

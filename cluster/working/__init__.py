"""What happens inside a worker: tasks, engine workers, merges of files.

The driver sends these and never waits in them.
"""

"""The driver: it takes a plan's stages to their end, and holds the run's claims, money and clock.

Comes in: a pipeline, a runner, a root (``run_pipeline``). Goes out: a ``RunResult``; everything durable is in stores,
snapshots and records. One loop in one thread; only ``keep_alive`` has a thread of its own.
"""

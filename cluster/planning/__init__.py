"""What a pipeline would reuse, top up or compute.

Comes in: a pipeline, a root, the run's settings. Goes out: a ``RunPlan``. It reads a root and writes nothing.
"""

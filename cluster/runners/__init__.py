"""Where work is executed: the protocol, and this process. Ray's is ``cluster.ray``.

Comes in: tasks and engine jobs. Goes out: futures. A runner knows nothing of pipelines, stores or money.
"""

"""Where work is executed: the protocol, and this process. Ray's is ``cluster.ray``."""

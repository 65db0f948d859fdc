"""What a pipeline would reuse, top up or compute, and in which order: read from a root, written nowhere."""

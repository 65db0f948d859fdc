"""Where programs that a model wrote are run: bubblewrap outside, a namespace of its own for each program inside."""

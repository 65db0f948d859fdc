"""A job from its plan to its summary."""

"""Small models that are trained here, on the CPU: from what strategies did, and what came of it."""

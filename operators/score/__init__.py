"""Operators that score samples: reward models, likelihoods, judges."""

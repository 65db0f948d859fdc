"""Sampling policies: who gets the next samples, decided from the verdicts so far."""

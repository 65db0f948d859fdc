"""Strategies: how a model's calls are spent on one problem. One method is one file, and reads like its pseudo-code."""

"""Transformations of traces: shorter, parallel, with errors that are seen, with other outcomes."""

"""Where it runs: runners, engines, storage and the driver that moves a pipeline through them."""

import os

os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:100,muzzy_decay_ms:0")
"""Polars' allocator (jemalloc) gives what is free back within a tenth of a second, where by itself it keeps much of it
for good; at once costs a fifth of the speed. It is told when it is loaded, so this comes before Polars is imported
(``jobs`` imports it first), and processes started here have it."""

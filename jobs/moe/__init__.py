"""``gristmill moe`` and ``gristmill layout``: expert placement and layouts, without a GPU."""

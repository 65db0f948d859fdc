"""The driver's loop: it takes a plan's stages to their end, and holds the run's claims, money and clock."""

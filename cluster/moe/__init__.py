"""Where the experts of a mixture-of-experts model go: layouts, placements, and what they are worth."""

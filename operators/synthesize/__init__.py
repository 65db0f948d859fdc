"""What turns verified samples into training data."""

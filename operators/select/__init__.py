"""What picks one answer a problem from many samples; the equivalence classes of answers that all of it shares."""

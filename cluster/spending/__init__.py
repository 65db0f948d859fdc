"""Spending: what a run may send, what it has spent, and which samples its policy asks for next."""

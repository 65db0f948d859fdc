"""Which of a problem's samples should have no say in its answer, and why."""

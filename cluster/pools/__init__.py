"""Engine workers as the driver sees them: started, given work, put to sleep, replaced when they die."""

"""Engine workers as the driver sees them: started, given work, put to sleep, replaced when they die.

Comes in: work, from the driver's loop. Goes out: what the workers made, to the states of their stages. Workers are
called through typed handles (``cluster.runners``), never by name.
"""

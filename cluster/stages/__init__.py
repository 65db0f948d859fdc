"""What each stage of a run has done, has under way and still wants.

Comes in: the stage's plan, and news (``on_*``). Goes out: the next pieces of work. The driver's loop asks; nothing here
runs in another thread, and nothing here starts a worker.
"""

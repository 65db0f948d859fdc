"""What each stage of a run has done, has under way and still wants.

The driver's loop asks; nothing here runs in another thread.
"""

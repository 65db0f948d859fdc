"""What operators are handed: processes that can be killed, and how many cores they may use."""

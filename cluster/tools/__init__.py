"""What operators are handed: processes that can be killed, and how many cores they may use.

Operators never start these themselves; they get them by keyword (``Operator.tools``).
"""

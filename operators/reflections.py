"""Second thoughts in traces: how a step begins that has one, and what a confident one says instead (ConCISE)."""

from __future__ import annotations

_REFLECTION = (
    r"wait|hold on|hmm+|hang on|actually|alternatively|on second thoughts?|is (?:this|that) (?:right|correct)"
    r"|(?:let me|let's|let us|I(?:'ll| will| should| want to| need to| have to)|to|just to|we (?:should|can|could))\s+"
    r"(?:quickly |just |also )?(?:double[- ]?check|re-?check|check|verify|confirm|reconsider|re-?examine|make sure"
    r"|be sure)"
    r"|double[- ]?checking|checking again|make sure"
)
REFLECTION = rf"(?i)^\W*(?:(?:so|but|ok|okay|now|and|oh|no)\W+)*(?:{_REFLECTION})\b"
"""How a step begins that doubts or checks what was found."""

PHRASES = (
    "I'm confident that this is right.",
    "That is clear, so I can go on.",
    "This step is sound. I move on.",
    "The reasoning so far holds, so there is no need to check it again.",
)
"""What is said in place of a reflection."""

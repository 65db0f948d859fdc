"""What makes Lean accept a theorem without a proof of it, and how a proof shows that it rests on none of that."""

from __future__ import annotations

import re

FORBIDDEN = (
    # proofs that aren't: by the tactic, by the term, by stopping early, by trusting the compiler
    r"\bsorry\b",
    r"\bsorryAx\b",
    r"\badmit\b",
    r"\bstop\b",
    r"\baxiom\b",
    r"\bnative_decide\b|decide\s*\+native|\bnative\s*:=\s*true",
    r"\bofReduce(?:Bool|Nat)\b|\breduce(?:Bool|Nat)\b|\btrustCompiler\b",
    r"\bimplemented_by\b|\bextern\b|\bcsimp\b",
    r"\bunsafe\w*\b",
    # declarations that the kernel doesn't check
    r"\bskipKernelTC\b|\bset_option\s+debug\b",
    r"\baddDecl\w*|\bEnvironment\b",
    # programs that run while a proof is checked
    r"\brun_(?:cmd|elab|meta|tac)\b|\bby_elab\b|\beval%",
    r"#\s*(?:eval|exit|print|reduce|run|guard|synth|import|html|widget)",
    r"\b(?:builtin_)?initialize\b",
    r"\bIO\b|\bEIO\b|\bBaseIO\b",
    # what changes how the rest of the file is read
    r"\b(?:macro|macro_rules|elab|elab_rules|syntax|declare_syntax_cat|notation3?)\b",
    r"\b(?:infix[lr]?|prefix|postfix)\s*:",
    r"@\[[^\]]*\b(?:macro|command_elab|term_elab|tactic|app_unexpander)\b",
    r"(?m)^\s*import\b",
)
"""Regular expressions for what a proof has no use for."""
TRUSTED = ("propext", "Classical.choice", "Quot.sound")
"""The axioms of Lean's own library, on which ordinary proofs rest."""

_TELLS = re.compile(r"'([^'\n]+)' (?:(does not depend on any axioms)|depends on axioms:\s*\[([^\]]*)\])")
_THEOREM = re.compile(
    r"(?m)^[^\S\n]*(?:@\[[^\]]*\]\s*)?(?:(?:private|protected|noncomputable)\s+)*(?:theorem|lemma)\s+(\S+)"
)
_SCOPE = re.compile(r"(?m)^\s*(namespace|end)\s+(\S+)")


def theorem_of(prompt: str) -> str:
    """Return the name of the last theorem that a prompt states, "" where there is none."""
    names = _THEOREM.findall(prompt)
    return names[-1].rstrip(":({[") if names else ""


def against_axioms(output: str, prompt: str, allowed: tuple[str, ...]) -> str | None:
    """Return what is wrong with the axioms that ``#print axioms`` told of the prompt's theorem; None if nothing is.

    That it told nothing is wrong as well: something kept Lean from getting there.
    """
    name = theorem_of(prompt)
    scope: list[str] = []
    for what, where in _SCOPE.findall(prompt):
        if what == "namespace":
            scope.append(where)
        elif scope and scope[-1] == where:
            scope.pop()
    names = {name, ".".join([*scope, name])}
    told = [match for match in _TELLS.finditer(output) if match[1] in names]
    if not told:
        return f"'#print axioms {name}' told nothing of it: end the template with that line"
    used = [one.strip() for one in (told[-1][3] or "").split(",") if one.strip()]
    others = [one for one in used if one not in allowed]
    return f"rests on {', '.join(others)[:200]}" if others else None

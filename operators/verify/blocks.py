"""Blocks of code in a completion, and which of them are the program.

A block is fenced by backticks or tildes, in a list or quotation as well. The program is the last block that defines
what is tested, in the tests' language, together with the blocks that define what it uses. Blocks in other languages
(the output, a command line) are no part of it, nor are those that only use it.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from operators.verify.names import Names, defines, names_of, parsed

_FENCE = re.compile(r"^(?P<indent>(?:[ \t]|>[ ]?)*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>.*?)[ \t]*$")
_IN_A_LINE = re.compile(r"^[ \t]*```(?:(?P<label>\w+)[ \t]+)?(?P<code>[^`]+)```[ \t]*$")
_MARKED = re.compile(
    r"(?s)(?:\[(?:BEGIN|PYTHON|CODE)\]|<(?:code|python|solution|answer)>)[ \t]*\r?\n(?P<code>.*?)"
    r"(?:\[/?(?:DONE|END|PYTHON|CODE)\]|</(?:code|python|solution|answer)>|\Z)"
)
"""Other ways to say where the program is, for completions without fences."""
_CODE_LIKE = re.compile(
    r"^[ \t]*(?:@\w|def\s|class\s|async\s+def\s|import\s+\w|from\s+[\w.]+\s+import\b|[A-Za-z_]\w*\s*=[^=])"
)
_READING = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\s*\(\s*(?:0|['\"]/dev/stdin)|\bfileinput\b|\bos\.read\s*\(\s*0")
_TRIED = 60
"""How many lines of words behind a program without fences are looked past."""
_FENCES = re.compile(r"(?m)^[ \t]*(?:`{3,}|~{3,})[^\n]*$")
_NEAR = 3
"""A fence that closes is indented by at most so much more than the one that opened."""

LANGUAGES: dict[str, frozenset[str]] = {
    suffix: frozenset(labels.split())
    for suffix, labels in {
        "py": "py python python2 python3 py3 py2 ipython ipython3 cpython pypy pypy3 sage",
        "sh": "sh bash shell zsh ksh dash",
        "c": "c c99 c11 gcc",
        "cpp": "cpp c++ cc cxx c++11 c++14 c++17 c++20 cpp17 cpp20 hpp",
        "cs": "cs csharp c#",
        "go": "go golang",
        "rs": "rs rust",
        "java": "java",
        "kt": "kt kotlin",
        "scala": "scala",
        "swift": "swift",
        "js": "js javascript node nodejs mjs jsx",
        "ts": "ts typescript tsx",
        "rb": "rb ruby",
        "php": "php",
        "pl": "pl perl",
        "lua": "lua",
        "r": "r rscript",
        "jl": "jl julia",
        "hs": "hs haskell",
        "ml": "ml ocaml",
        "sql": "sql sqlite mysql postgresql",
        "awk": "awk",
        "lean": "lean lean4 lean3",
        "v": "v coq rocq",
        "thy": "thy isabelle",
    }.items()
}
"""By the suffix of a program's file: what a block in that language is labelled with."""
_WITHOUT_PROGRAMS = """
    text txt plain plaintext output out stdout stdin input console terminal log json jsonc yaml yml toml xml html css
    csv tsv ini diff patch markdown md latex tex math mermaid dot pycon doctest traceback error powershell ps1 bat cmd
    http dockerfile makefile none
"""
_COMMON = frozenset(label for every in LANGUAGES.values() for label in every) | {*_WITHOUT_PROGRAMS.split()}


@dataclass(frozen=True)
class Block:
    """One block of a completion."""

    label: str
    """The language that it is said to be in, in lower case; empty where nothing is said."""
    code: str


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a text; the last one may lack its end."""
    found: list[Block] = []
    lines: list[str] = []
    opened: re.Match[str] | None = None
    for line in text.splitlines(keepends=True):
        fence = _FENCE.match(line.rstrip("\r\n"))
        if opened is None:
            if fence is None or (fence["fence"][0] == "`" and "`" in fence["info"]):
                if (single := _IN_A_LINE.match(line)) is not None:
                    found.append(Block((single["label"] or "").casefold(), single["code"] + "\n"))
                continue
            opened, lines = fence, []
        elif fence is not None and _closes(fence, opened):
            found.append(_block(opened, lines))
            opened = None
        elif (end := _ends_behind_code(line, opened)) is not None:
            found.append(_block(opened, [*lines, end]))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        found.append(_block(opened, lines))
    return found or [Block("", marked["code"]) for marked in _MARKED.finditer(text)]


def _closes(fence: re.Match[str], opened: re.Match[str]) -> bool:
    return (
        not fence["info"]
        and fence["fence"][0] == opened["fence"][0]
        and len(fence["fence"]) >= len(opened["fence"])
        and len(fence["indent"].expandtabs()) <= len(opened["indent"].expandtabs()) + _NEAR
    )


def _ends_behind_code(line: str, opened: re.Match[str]) -> str | None:
    """Return the code on a line that ends with the closing fence, None for other lines."""
    fence = opened["fence"]
    rest = line.rstrip()
    if rest.endswith(fence) and line.count(fence) == 1 and rest.strip() != fence:
        return rest.removesuffix(fence) + "\n"
    return None


def _block(opened: re.Match[str], lines: Sequence[str]) -> Block:
    """Return a block without what its fence was indented by."""
    indent = opened["indent"]
    quoted = indent.strip(" \t") != ""
    code = "".join(_without(line, indent, quoted) for line in lines)
    label = re.match(r"[{.\s]*([^\s{},:=]*)", opened["info"])
    word = label[1].casefold() if label else ""
    stem, dot, suffix = word.rpartition(".")
    return Block(suffix if dot and stem else word, code)


def _without(line: str, indent: str, quoted: bool) -> str:
    if line.startswith(indent):
        return line[len(indent) :]
    if quoted:
        return re.sub(r"^[ \t]*(?:>[ ]?)+", "", line)
    most = len(indent)
    return line[min(most, len(line) - len(line.lstrip(" \t"))) :]


def find_program(text: str, suffix: str, *wanted: frozenset[str], reads: bool = False) -> str | None:
    """Return the program in a completion, None where there is none.

    Args:
        text: what the model says in the end.
        suffix: of the program's file: its language; empty for any.
        wanted: the names that it is to define; further sets of names where other programs would do as well.
        reads: whether it is a script that reads standard input.
    """
    blocks = [block for block in blocks_of(text) if block.code.strip()]
    if not blocks:
        rest = _FENCES.sub("", text)  # an opened block with nothing in it
        if not rest.strip():
            return None
        return bare_program(rest, wanted) if suffix == "py" else rest
    own = LANGUAGES.get(suffix, frozenset())
    labelled = [block for block in blocks if block.label in own]
    mine = [block for block in blocks if block.label in own or block.label not in _COMMON]
    if suffix != "py":
        return _main_of(labelled or mine or blocks) if own else blocks[-1].code
    for names in wanted:
        for codes in ([block.code for block in mine], [block.code for block in blocks]):
            chosen = _last(codes, lambda code, names=names: all(defines(code, name) for name in names))
            if chosen is None:
                chosen = _last(codes, lambda code, names=names: any(defines(code, name) for name in names))
            if chosen is not None:
                return _joined(codes, chosen, names)
    codes = [block.code for block in labelled or mine or blocks]
    if reads and (script := _script(codes)) is not None:
        return script
    chosen = _last(codes, _is_program)
    return codes[-1] if chosen is None else _joined(codes, chosen, frozenset())


def _main_of(blocks: Sequence[Block]) -> str:
    """Return the last block with a main function, else the last."""
    mains = [block.code for block in blocks if re.search(r"\bmain\s*\(|\bMain\b", block.code)]
    return mains[-1] if mains else blocks[-1].code


def _last(codes: Sequence[str], fits: Callable[[str], bool]) -> int | None:
    """Return which is the last that fits; one that is Python goes before one that isn't."""
    fitting = [at for at, code in enumerate(codes) if fits(code)]
    whole = [at for at in fitting if names_of(codes[at]) is not None and not _is_stub(codes[at])]
    return (whole or fitting or [None])[-1]


def _is_stub(code: str) -> bool:
    """Whether all functions of a block are heads without a body, as where a signature is repeated."""
    tree = parsed(code)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)] if tree else []
    return bool(functions) and all(map(_says_nothing, (line for node in functions for line in node.body)))


def _says_nothing(line: ast.stmt) -> bool:
    unwritten = isinstance(line, ast.Raise) and line.exc is not None and "NotImplemented" in ast.unparse(line.exc)
    return (
        unwritten or isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
    )


def _is_program(code: str) -> bool:
    """Whether a block is Python that does something, and not just a value, as outputs are."""
    tree = parsed(code)
    return tree is not None and any(
        not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body
    )


def _joined(codes: Sequence[str], chosen: int, wanted: frozenset[str]) -> str:
    """Return the chosen block, with those that define what it lacks, in the order in which they were written."""
    return "\n".join(codes[at] for at in sorted(_with_needs(codes, chosen, wanted)))


def _with_needs(codes: Sequence[str], chosen: int, wanted: frozenset[str]) -> set[int]:
    names = [names_of(code) or Names() for code in codes]
    taken, defined = {chosen}, set(names[chosen].defined)
    missing = [*sorted(names[chosen].used | (wanted - defined))]
    while missing:
        name = missing.pop()
        if name in defined:
            continue
        before = [at for at in range(chosen) if name in names[at].defined]
        behind = [at for at in range(chosen + 1, len(codes)) if name in names[at].defined]
        stars = [at for at in range(chosen) if names[at].star]
        giver = before[-1] if before else behind[0] if behind else stars[-1] if stars else None
        if giver is not None and giver not in taken:
            taken.add(giver)
            defined |= names[giver].defined
            missing += names[giver].used - defined
    return taken


def _script(codes: Sequence[str]) -> str | None:
    """Return the last block that, with what it uses, reads standard input when it is run; None where there is none.

    One that needs another such block is an example of its use.
    """
    needs = [_with_needs(codes, at, frozenset()) for at in range(len(codes))]
    acts = [_acts(code) for code in codes]
    whole = [acts[at] and any(_reads(codes[one]) for one in needs[at]) for at in range(len(codes))]
    for at in reversed(range(len(codes))):
        if whole[at] and not any(whole[one] for one in needs[at] - {at}):
            return _joined(codes, at, frozenset())
    return None


def _acts(code: str) -> bool:
    """Whether a block does anything beyond defining, when it is run."""
    tree = parsed(code)
    quiet = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    return tree is not None and any(
        not isinstance(node, quiet) and any(isinstance(part, ast.Call | ast.For | ast.With) for part in ast.walk(node))
        for node in tree.body
    )


def _reads(code: str) -> bool:
    return _READING.search(code) is not None


def bare_program(text: str, wanted: Sequence[frozenset[str]]) -> str:
    """Return the Python in a completion without fences: all of it, or, where words stand around it, what defines
    ``wanted``. What begins within a function is left as it is: it continues the prompt."""
    if parsed(text) is not None or not wanted or text.lstrip("\r\n")[:1] in (" ", "\t"):
        return text
    lines = text.splitlines(keepends=True)
    starts = [at for at, line in enumerate(lines) if _CODE_LIKE.match(line)][:8]
    parts = [part for start in starts if (part := _longest(lines, start)) is not None]
    return next((part for names in wanted for part in parts if all(defines(part, name) for name in names)), text)


def _longest(lines: Sequence[str], start: int) -> str | None:
    """Return as many lines as are Python, without what they are all indented by; None where not one is."""
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    end = start + 1
    while end < len(lines) and (lines[end].startswith(indent) or not lines[end].strip()):
        end += 1
    for last in range(end, max(start, end - _TRIED), -1):
        part = textwrap.dedent("".join(lines[start:last]))
        if parsed(part) is not None:
            return part
    return None

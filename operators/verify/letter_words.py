"""The words with which models say which option they choose, take back or call wrong, as regular expressions."""

# full-width signs are what it is about
# ruff: noqa: RUF001

from __future__ import annotations

import re

DRESS = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|operatorname|bf|rm)\s*\{([^{}]*)\}"
)
BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
TAG = re.compile(r"(?is)<answer>(.*?)</answer>")
JSON = re.compile(
    r"""(?i)["'](?:final_?\s?|correct_?\s?)?(?:answer|choice|option|selection|response|letter)["']\s*:\s*[\[\s]*["']?([^"'\n}\]]*)"""
)
_NOUN = (
    r"(?:(?<![a-z])ans\b\.?|answers?|choices?|options?|letter|selection|response|antwort|lösung|respuesta|opción|réponse|risposta|resposta|ответ|"
    r"答案|答え|回答|正解|선택|정답)"
)
_IS = (
    r"(?:\s*\b(?:is|are|would\s+be|must\s+be|should\s+be|will\s+be|has\s+to\s+be|(?:seems|appears|turns\s+out|happens)\s+to\s+be|"
    r"remains|becomes|ist|lautet|es|est|è|é)\b\s*(?::|\s)|"
    r"\s*\]?\s*(?:[:=]|(?<=\])\s|是|为|為|は|은|는|选|選|->|→)|\s+[-\u2013\u2014]\s)"
)
_LINKS = (
    r"(?:\s|[:\"'“「(\[{<$]|therefore\b|thus\b|clearly\b|simply\b|indeed\b|definitely\b|most\s+likely\b|probably\b|likely\b|"
    r"either\b|not\s+\(?[A-Za-z]\)?,?\s+but\b|letter\b|option\b|choice\b|answer\b|choose\b|l[ae]\b|el\b|(?:the\s+)?(?:correct|right|best)\s+(?:answer|option|choice)\b|,)*"
)
SAID = re.compile(
    rf"(?i){_NOUN}(?:\s+(?:correct[ao]?|corretta|exacte|juste|finale?))?"
    rf"(?:\s+(?:to|for|of|that|which)\s+(?:(?!\bis\b)[^.:\n]){{1,60}}?)??{_IS}{_LINKS}"
)
CHOSEN = re.compile(
    rf"(?i)(?:\b(?:i|we|i'll|i'd|would|will|must|should|to)\s+(?:\w+\s+)?(?:chose|picked|selected|answer)|"
    rf"\b(?:choose|select|pick|selecting|choosing|opt\s+for|go(?:ing)?\s+with|settl(?:e|ing)\s+on|left\s+with|"
    rf"leav(?:es|ing)(?:\s+us)?(?:\s+(?:with|only))?|match(?:es|ing)|corresponds?\s+to|corresponding\s+to|"
    rf"only(?=\s+(?:option\s+|choice\s+)?\(?[A-Z]\)?\s+(?:remains|is|works|fits|holds|can|makes)\b))|\bi\.e\.,?|(?:应该)?选择?|選擇?){_LINKS}"
)
CONCLUDED = re.compile(
    rf"(?im)(?:^|(?<=[.!?;\n])\s*|,\s+|\bbut\s+)(?:(?:therefore|thus|hence|so|in\s+conclusion|overall|finally|∴|=>|⇒|→|->)(?!\w)[,:\s]*"
    rf"(?:(?:it|this|that)(?:'s|\s+(?:is|must\s+be|has\s+to\s+be|leaves|gives))\s+)?|(?:it|this|that)(?:'s|\s+(?:is|must\s+be|has\s+to\s+be|"
    rf"leaves))\s+|which\s+is\s+(?=option|choice|answer)|(?:i\s+think\s+(?:that\s+)?(?:it's\s+|it\s+is\s+)?)|"
    rf"(?:correct|final|selected|chosen)\s*:\s*|(?=(?:option|choice)\s+\(?[A-Z]\)?\s*[.)!]*\s*$)){_LINKS}|\b(?:it's|it\s+is)\s+{_LINKS}"
)
CORRECTED = re.compile(
    r"(?i)(?:\bno|\bwait|\bactually|\bsorry|\bcorrection|\bscratch\s+that|\boops|\brather)\b(?:[,;:\s]|\bno\b|\bwait\b|\bactually\b|"
    r"\b(?:it's|it\s+is|i\s+mean|make\s+that)\b|[\u2013\u2014]|\.(?=\.)|(?<=\.)\.){0,16}(?:the\s+)?(?:option\s+)?\(?(?=[A-Za-z]\)?\s*(?:[.,;!]|$))"
)
"""What takes an answer back: "no, wait: ...", before another letter."""
RIGHT = re.compile(
    r"(?i)(?<![\w'])\(?(?:(?:option|choice|answer|statement)\s+)?\(?([A-Za-z])\)?[.:)]?\s+"
    r"(?:is|are|must\s+be|would\s+be|should\s+be|looks|has\s+to\s+be)\s+(?:(?:therefore|thus|clearly|indeed|definitely|obviously|also|the|"
    r"most|only|one|a|our|my|likely|probably)\s+)*(?:correct|right|best|better|true|answer|solution|choice|valid|one)\b(?!\s+(?:if|when|only)\b)"
)
DENIED = re.compile(r"(?i)\b(?:incorrect|wrong|false|other|remaining|bad|eliminated|worst|discarded|poor)\s*$")
"""Before "answer" or "options": these aren't the model's."""
SUPPOSED = re.compile(r"(?i)\b(?:if|whether|suppose|assuming|unless)\b(?:(?!\bthen\b)[^.;:!?\n,]){0,30}$")
REFUSED = re.compile(r"(?i)(?:\bnot|\bnever|n't|\bcannot)\s+(?:\w+\s+)?$")
"""Before a choice that isn't made."""
OPENING = re.compile(
    r"(?:\s|[-*>(\"'$]|(?i:probably|maybe|perhaps|possibly|likely|(?:it\s+)?(?:could|might|may|should|must)\s+be|either|only|just|"
    r"i(?:'d|\s+would)?\s+(?:think|guess|say|believe)|option|choice|answer|definitely|hmm+|well|ok(?:ay)?)\b[,:]?)*\(?([A-Z])\)?"
    r"(?=\s*(?:[!?.\s]*$|\([^()]*\)[.!\s]*$|,?\s*(?i:because|since|i\s+(?:think|guess|believe)|probably|definitely|for\s+sure|or|rather\s+than|"
    r"instead\s+of|not|over|works?|fits?|holds?|matches|wins|makes\s+sense|seems|looks)\b))"
)
"""A line that begins with its letter: ``C, because ...``, ``Maybe C?``, ``Only C works``."""
LAST_SENTENCE = re.compile(r"\w\w[.!?]\s+\(?([A-Z])\)?[.!]?\s*$")
INLINE = re.compile(
    r"(?<!\w)\(?([A-Za-z])(?:\)\s*[?:=\u2013\u2014-]?|\s*[?:=(\u2013\u2014-])\s*"
    r"(yes|no|true|false|correct|incorrect|right|wrong|✓|✔|✅|✗|✘|❌)(?!\w)",
    re.IGNORECASE,
)
"""Options that are called right or wrong within a line: ``A? No. B? Yes.``"""
LAST_IS = re.compile(r"(?<!\w)\(?([A-Z])\)?\s+(?:is|does)\s*[.!]*\s*$")
NOT_THESE = re.compile(
    r"(?i)\b(?:not|isn't|n't\s+be|rather\s+than|instead\s+of|unlike|neither|nor)\s+(?:the\s+|an?\s+)?$"
)
DOUBT = re.compile(
    r"(?i)\b(?:if|whether|suppose|assume|assuming|unless|not|neither|nor|why|that)\s+(?:option\s+|choice\s+)?\(?$"
)
LINE = re.compile(r"(?m)^[ \t>*#-]*\(?([A-Za-z])(?:[).:]+[ \t]*|[ \t]*$|[ \t]*[-\u2013\u2014][ \t]+)(.*)$")
LONE = re.compile(
    r"[\s\"'$✓✔✅]*(?:option|choice|answer)?[\s:]*[(\[]*\s*([A-Za-z])\s*[)\]]*[✓✔✅\s.:!?)\"'$]*", re.IGNORECASE
)
BRACKETED = re.compile(r"\(([A-Za-z])\)")
ENDS = (
    r"(?=\s*(?:$|[^\x00-\x7f]|[.,;:!?)\]}\"'\n<>|/&+$]|-\s|[-\u2013\u2014]\s|\((?![a-z])|"
    r"\b(?:or|and|because|since|as|for|due|with|is|which|oder|ou|und|o|y)\b))"
)
MORE = re.compile(
    r"[.)\]]?\s*(?:,\s*(?:and\s+|or\s+)?|/|&|\+|;\s*|\bor\b\s*(?:option\s+|maybe\s+|perhaps\s+|(?:it\s+)?(?:could|might|may)\s+be\s+)?|\band\b\s*(?:option\s+)?|\boder\b\s*)\s*\(?([A-Za-z])\b\)?"
    r"(?=\s*(?:$|[.,;:!?)\]}\"'\n/&+$]|\b(?:or|and|are|both)\b))"
)
NO, YES = (
    r"\b(?:no|not|wrong|incorrect|false|untrue|doesn't|isn't)\b|✗|✘|❌|×",
    r"\b(?:yes|correct|right|true)\b|✓|✔|✅",
)

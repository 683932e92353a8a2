"""A report on a terminal: its text, with the verdicts in color."""

import os
import re
from typing import TextIO

from fbp.verify.report import Kind, Report

RED, GREEN, YELLOW = 31, 32, 33


def colored(report: Report, stream: TextIO) -> str:
    """Return the text of a report, in colors if the stream is a terminal and NO_COLOR is not set.

    >>> import sys
    >>> print(colored(Report("the gradient of f"), sys.stdout))
    the gradient of f: right
    """
    text = str(report)
    return paint(text) if stream.isatty() and not os.environ.get("NO_COLOR") else text


def paint(text: str) -> str:
    """Return the text of a report with the colors of a terminal, on verdicts and kinds of findings.

    >>> paint("the gradient of f: right").encode()
    b'the gradient of f: \\x1b[1;32mright\\x1b[0m'
    """
    kinds = {kind: RED if kind.fails else YELLOW for kind in Kind}
    rules = [(r"(?<=: )right(?=$|, but )|^  ok(?= )", GREEN), (r"(?<=: )WRONG$|^  WRONG(?= )", RED)]
    rules += [(r"(?<=: )unresolved(?=: )|NOT JUDGED", YELLOW)]
    rules += [(f"^{kind}(?=: )", color) for kind, color in kinds.items()]
    for pattern, color in rules:
        text = re.sub(f"({pattern})", rf"\033[1;{color}m\1\033[0m", text, flags=re.MULTILINE)
    return text

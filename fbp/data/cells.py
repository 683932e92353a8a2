"""One cell of a table: is it missing, and which number or date does it hold?

Everything here is a function of the cell and of how its column is written, never of other cells.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

EMPTY_WORDS = frozenset(
    [
        *("", "na", "n/a", "nan", "-nan", "nat", "null", "<na>", "#n/a", "#n/a n/a", "#na", "?"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
        *("#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"),
    ]
)
"""Markers of a missing value in any column, in lower case, as of pandas and spreadsheets."""

EMPTY_NUMBERS = EMPTY_WORDS | {"none", ".", "..", "-", "--", "–", "—", "missing", "unknown"}
"""The same for numbers and dates; among words `None` and `-` may be classes."""

CURRENCIES = ("US$", "A$", "C$", "R$", "$", "€", "£", "¥", "₹", "Rs.", "USD", "EUR", "GBP", "CHF")

GROUPS_POINT = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")  # 1,234.5
GROUPS_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?")  # 1.234,5
GROUPS_SPACE = re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f'’]\d{3})+(?:[.,]\d*)?")
COMMA = re.compile(r"[+-]?(?:\d+,\d*|,\d+)(?:[eE][+-]?\d+)?")
UNIT_SIGNS = "%‰°€£¥$₹"
BETWEEN_DIGITS = re.compile(r"[^\d.,eE+\- \u00a0\u202f'’]")  # what no number holds
LONE_DIGIT = re.compile(r":\d(?!\d)")
LEADING_ZERO = re.compile(r"[+-]?0\d+(?:[eE]\d+)?")  # 007, and 003e5, which is no number

DATE_FORMATS = (
    "iso", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p",
    "%m/%d/%y", "%d/%m/%y", "%m/%d/%y %H:%M", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d-%b-%y",
    "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%Y-%m", "%Y/%m", "%b %Y",
    "%B %Y", "%b-%y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S", "%H:%M", "%H:%M:%S",
    "%I:%M %p", "%I:%M:%S %p",
)  # fmt: skip
"""How dates and times are written, tried in this order: month before day where both would do."""


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are written.

    Attributes:
      decimal: the sign before the decimals.
      unit: what stands before or after each number and is passed over, such as `kg` or `$`.
    """

    decimal: Literal[".", ","] = "."
    unit: str = ""


PLAIN = NumberFormat()


def text_of(cell: Any) -> str:
    """Return a cell as text: '' where it is missing, whole numbers without a point.

    >>> [text_of(cell) for cell in (250.0, 0.1, None, float("nan"), True, " a ")]
    ['250', '0.1', '', '', 'True', 'a']
    """
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace").strip()
    if hasattr(cell, "item"):
        cell = cell.item()
    if isinstance(cell, float):
        if math.isnan(cell):
            return ""
        integral = cell.is_integer() and abs(cell) < 1e15
        return str(int(cell)) if integral else repr(cell)
    return "" if cell is None else str(cell).strip()


def is_missing(text: str, *, word: bool) -> bool:
    """Return whether a cell's text stands for a missing value, in a column of words or not.

    >>> is_missing("NA", word=True), is_missing("None", word=True), is_missing("None", word=False)
    (True, False, True)
    """
    return text.strip().casefold() in (EMPTY_WORDS if word else EMPTY_NUMBERS)


def number_of(text: str, form: NumberFormat = PLAIN) -> float | None:
    """Return the finite number that a cell holds, or None.

    >>> number_of("1,234.5"), number_of("$12"), number_of("1.234,5", NumberFormat(","))
    (1234.5, None, 1234.5)
    >>> number_of("$12", NumberFormat(unit="$")), number_of("1_000"), number_of("inf")
    (12.0, None, None)
    """
    text = text.strip()
    if form.unit and form.unit in text:
        before, _, after = text.partition(form.unit)
        if before.strip("+-−( ") and after.strip(" )"):
            return None  # within the digits, as in 15-24
        text = f"{before}{after}".strip()
        text = text.replace(" ", "") if text[:1] in "+-" else text
    if text.startswith("(") and text.endswith(")"):  # how accountants write a negative number
        text = "-" + text[1:-1]
    text = text.replace("−", "-")
    if GROUPS_SPACE.fullmatch(text):
        text = re.sub(r"[ \u00a0\u202f'’]", "", text)
    if form.decimal == "," and (GROUPS_COMMA.fullmatch(text) or COMMA.fullmatch(text)):
        text = text.replace(".", "").replace(",", ".")
    elif form.decimal == "." and GROUPS_POINT.fullmatch(text):
        text = text.replace(",", "")
    if "_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def truth_of(text: str) -> float | None:
    """Return 1 for true and 0 for false, as arrays hold them, else None.

    >>> truth_of("TRUE"), truth_of("yes")
    (1.0, None)
    """
    return {"true": 1.0, "false": 0.0}.get(text.strip().casefold())


def unit_of(text: str) -> str | None:
    """Return what stands before or after the digits of a cell, if it can be a unit; else None.

    >>> unit_of("12.5 kg"), unit_of("$ 3"), unit_of("12"), unit_of("Q1"), unit_of("3 of 5")
    ('kg', '$', '', None, None)
    """
    digits = [index for index, sign in enumerate(text) if sign.isdigit()]
    if not digits or BETWEEN_DIGITS.search(text[digits[0] : digits[-1]]):
        return None
    before = text[: digits[0]].rstrip("+-.,( −").strip()
    after = text[digits[-1] + 1 :].lstrip(".,").strip().rstrip(")").strip()
    if before and after:
        return None
    if before:
        return before if before in CURRENCIES else None
    short = len(after) <= 12 and not re.search(r"[\d,;:()]", after)
    named = not after or any(sign.isalpha() or sign in UNIT_SIGNS for sign in after)
    return after if short and named else None


def date_of(text: str, form: str) -> datetime | None:
    """Return the date and time that a cell holds in a format of `DATE_FORMATS`, without a zone.

    >>> date_of("2024-02-29", "iso"), date_of("31.12.1999", "%d.%m.%Y").year
    (datetime.datetime(2024, 2, 29, 0, 0), 1999)
    """
    if ":" in text and LONE_DIGIT.search(text):
        return None  # 1:2 is a ratio
    try:
        if form != "iso":
            return datetime.strptime(text.strip(), form)
        date = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return date.astimezone(UTC).replace(tzinfo=None) if date.tzinfo else date

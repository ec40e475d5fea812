"""Text files as people and programs write them: byte order marks, UTF-16, any line ends, any separator.

What these settle is no part of a name: a byte order mark, a carriage return, a quote around a cell.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
SEPARATORS = ",;\t|"
"""What may part the cells of a table."""
_TOLD_SEPARATOR = re.compile(r'\s*"?sep=([,;\t|])"?[ ,;\t|]*(?:\r\n|\r|\n)', re.IGNORECASE)
MISSING_WORDS = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "-1", "-1.0"})
"""What programs write where there is no value, in lower case."""
PROBED = 1 << 12
"""Bytes that tell UTF-16 without a mark: nearly every second one is zero."""


def decoded(data: bytes) -> str:
    """Text of a file in UTF-8, UTF-16 or UTF-32, without its byte order mark.

    Raises:
        UnicodeDecodeError: it is none of these.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding)
    probe = data[: PROBED & ~1]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = probe[first::2].count(0)
        if zeros and zeros > 0.4 * len(probe[first::2]) and not probe[1 - first :: 2].count(0):
            return data.decode(encoding)
    return data.decode()


def lines_of(text: str) -> list[str]:
    """Lines that hold something, without blanks around them."""
    return [line for raw in _LINE_END.split(text) if (line := raw.strip())]


def separated(text: str) -> tuple[str, str]:
    """The rows of a table, and what parts their cells.

    Excel's first line `sep=;` says it and is no row; else it is what comes most often in the first line,
    outside quotes.
    """
    if (told := _TOLD_SEPARATOR.match(text)) is not None:
        return text[told.end() :], told[1]
    header = _QUOTED.sub("", _LINE_END.split(text.lstrip(), maxsplit=1)[0])
    return text, max(SEPARATORS, key=header.count)  # the first of equals


def slashed(names: Sequence[str | None]) -> list[str | None]:
    """Paths as they stand in a file from Windows, with `/`; others, of which one has a `/`, as they are."""
    if any(name is not None and "/" in name for name in names):
        return list(names)
    return [None if name is None else name.replace("\\", "/") for name in names]


def is_missing(value: str | None) -> bool:
    """Whether a cell says that there is no value."""
    return value is None or value.strip().lower() in MISSING_WORDS


def composed(name: str) -> str:
    """A name in Unicode's form NFC: some systems store the same letters in another one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)

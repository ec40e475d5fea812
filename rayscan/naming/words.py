"""Words of a text, in any language: runs of letters that hold no digit.

IMG_0001, hashes, dates and other numbers are none. Scripts without blanks between words give every pair of
neighboring characters, as search engines index them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

NO_BLANKS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Han."""
MIN_LETTERS = 2
"""Of a word in a script with blanks between words."""


def words_of(text: str) -> list[str]:
    """The words of a text, in order and in one case.

    Args:
        text: Anything; an address, or JSON, has none.
    """
    if "://" in text or text.lstrip()[:1] in ("{", "["):
        return []
    words: list[str] = []
    for run in _runs().findall(unicodedata.normalize("NFC", text)):
        if any(character.isdigit() for character in run):
            continue
        for part in run.split("_"):
            words += _words(part.casefold())
    return words


def _words(part: str) -> list[str]:
    found = []
    for word in re.findall(f"[{NO_BLANKS}]+|[^{NO_BLANKS}]+", part):
        if not re.match(f"[{NO_BLANKS}]", word):
            found += [word] if len(word) >= MIN_LETTERS else []
        else:
            found += [word[at : at + 2] for at in range(len(word) - 1)] or [word]
    return found


@cache
def _runs() -> re.Pattern[str]:
    r"""Letters, digits, `_`, and the marks that many scripts write vowels with, which are not in `\w`."""
    marks = (chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == "M")
    return re.compile(rf"\w[\w{''.join(marks)}]*")

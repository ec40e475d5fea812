"""Words of texts in several languages, and what is none."""

from __future__ import annotations

import pytest

from rayscan.naming.words import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Dog, on the beach!", ["dog", "on", "the", "beach"]),
        ("Golden_Retriever", ["golden", "retriever"]),
        ("golden-retriever's", ["golden", "retriever"]),
        ("Stra\u00dfe im M\u00e4rz", ["strasse", "im", "m\u00e4rz"]),
        ("e\u0301te\u0301", ["\u00e9t\u00e9"]),  # NFC
        ("\u041a\u043e\u0442 \u0441\u043f\u0438\u0442", ["\u043a\u043e\u0442", "\u0441\u043f\u0438\u0442"]),
        ("\u092c\u093f\u0932\u094d\u0932\u0940", ["\u092c\u093f\u0932\u094d\u0932\u0940"]),  # Hindi, one word
        ("\u0642\u0637\u0629 \u0646\u0627", ["\u0642\u0637\u0629", "\u0646\u0627"]),
        ("\u732b\u54aa\u7761", ["\u732b\u54aa", "\u54aa\u7761"]),
        ("\u732b cat", ["\u732b", "cat"]),
        ("IMG_0001", []),
        ("DSC00017.JPG", ["jpg"]),
        ("3f2a9bc04d", []),
        ("n01440764", []),
        ("2019-05-03 12:30", []),
        ("\u0661\u0662\u0663", []),  # digits of Arabic
        ("3\u4e2a", []),
        ("https://example.org/red/cat.jpg", []),
        ('{"Image Make": "Canon"}', []),
        ("", []),
        ("\U0001f431 \u2192 !?", []),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words

"""Text files as people write them."""

from __future__ import annotations

import pytest

from rayscan.text import composed, decoded, is_missing, lines_of, separated, slashed

TEXT = "gr\u00f6\u00dfe.jpg,1\nb.jpg,2\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_are_known_by_mark_or_by_zeros(encoding: str) -> None:
    assert decoded(TEXT.encode(encoding)) == TEXT


def test_a_mark_alone_and_nothing_are_no_text() -> None:
    assert decoded(b"") == decoded(b"\xef\xbb\xbf") == decoded(b"\xff\xfe") == ""


def test_other_encodings_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        decoded(TEXT.encode("cp1252"))


def test_lines_end_as_on_every_system() -> None:
    assert lines_of("a\r\nb\rc\n\n d \n") == ["a", "b", "c", "d"]
    assert lines_of("a\u2028b\x0bc") == ["a\u2028b\x0bc"]  # are part of a name


@pytest.mark.parametrize("separator", list(",;\t|"))
def test_separators_are_told_from_the_first_line(separator: str) -> None:
    assert separated(separator.join(["key", '"a,b;c|d,,,"', "label"]) + "\n1,2,3,4")[1] == separator


def test_one_column_has_no_separator_that_matters() -> None:
    assert separated("path\na;b") == ("path\na;b", ",")


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\r", "sep=;;\n"])
def test_excel_says_the_separator_itself(first: str) -> None:
    assert separated(f"{first}path;note\na,b,c;d") == ("path;note\na,b,c;d", ";")
    assert separated("sep=x\na") == ("sep=x\na", ",")


def test_paths_of_windows_have_slashes_here() -> None:
    assert slashed(["a.jpg", "b\\c.jpg", None]) == ["a.jpg", "b/c.jpg", None]
    assert slashed(["a/b\\c.jpg", "b\\c.jpg"]) == ["a/b\\c.jpg", "b\\c.jpg"]  # a name may hold one here


@pytest.mark.parametrize("word", ["", " ", "NA", "nan", "NaN", "None", "null", "N/A", "-1", "<NA>"])
def test_missing_values_in_words(word: str) -> None:
    assert is_missing(word)
    assert not is_missing(word + "x") and is_missing(None)


def test_names_have_one_form() -> None:
    assert composed("gro\u0308\u00dfe") == "gr\u00f6\u00dfe" and composed("abc") == "abc"

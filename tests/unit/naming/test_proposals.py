"""Names that words propose, against the rule written out term by term."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from rayscan.naming.proposals import ctfidf, propose, terms_of
from rayscan.naming.words import words_of
from tests.unit.naming.naive import slow_names

KINDS = ["cat", "dog", "red car", "gold fish tank", "tree"]
COMMON = ["a", "photo", "of", "the", "in", "some", "and", "with"]


def captions(seed: int, num_images: int) -> tuple[list[list[str]], list[int]]:
    """Captions with a kind each, most of them in their own cluster, and words that are everywhere."""
    rng = random.Random(seed)
    words, clusters = [], []
    for _ in range(num_images):
        kind = rng.randrange(len(KINDS))
        filler = rng.choices(COMMON, k=rng.randint(2, 6))
        at = rng.randrange(len(filler))
        text = [*filler[:at], *KINDS[kind].split(), *filler[at:], f"once{rng.random()}"]
        words.append([] if rng.random() < 0.2 else [*text[: len(text) // 2], "", *text[len(text) // 2 :]])
        clusters.append(kind if rng.random() < 0.8 else rng.randrange(7))
    return words, clusters


@pytest.mark.parametrize("seed", range(12))
def test_they_are_those_of_the_slow_rule(seed: int) -> None:
    words, clusters = captions(seed, 20 + 30 * seed)
    assert propose(words, np.array(clusters)) == slow_names(words, clusters)


def test_kinds_are_proposed_and_what_is_everywhere_is_not() -> None:
    words, clusters = captions(1, 600)
    names = propose(words, np.array(clusters))
    for number, kind in enumerate(KINDS):
        assert names[number][0] in (kind, kind.partition(" ")[0], "gold fish", "fish tank")
    assert not {name for listed in names.values() for name in listed} & set(COMMON)


def test_the_weight_is_that_of_equation_2() -> None:
    """Occurrences of three terms in two clusters, [[2, 0, 1], [1, 3, 1]]: A = 8 / 2."""
    found = ctfidf(csr_matrix([[2, 0, 1], [1, 3, 1]])).toarray()
    one, two, three = (math.log(1 + 4 / tf) for tf in (3, 3, 2))
    assert found == pytest.approx(np.array([[2 * one, 0, three], [one, 3 * two, three]]))


def test_terms_are_words_and_two_in_a_row_of_one_text() -> None:
    assert terms_of(["a", "b", "", "c", "d"]) == ["a", "b", "c", "d", "a b", "c d"]
    assert terms_of(["", "a", ""]) == ["a"]


def test_rare_terms_weigh_more() -> None:
    """Two clusters, by hand: 66 terms in each, so A = 66.

    W(rare) = 30 log(1 + 66/30) = 34.9 and W(common) = 36 log(1 + 66/54) = 28.7, although common is the more
    frequent one in the first cluster.
    """
    first = [["rare"] * (i < 30) + [""] + ["common"] * (i < 36) for i in range(48)]
    second = [["plain"] + [""] + ["common"] * (i < 18) for i in range(48)]
    names = propose([*first, *second], np.array([0] * 48 + [1] * 48))
    assert names == {0: ["rare", "common"], 1: ["plain"]}


@pytest.mark.parametrize(
    "texts",
    [
        ["IMG_0001", "IMG_0002", "DSC_0003", "DSC_0004"] * 10,
        ["5d41402abc4b2a76", "7d793037a0760186", "4a44dc15364204a8", "e1671797c52e15f7"] * 10,
        ["2019", "2020", "", "12"] * 10,
        ["a photo", "a photo", "a photo", "a photo"] * 10,
        [""] * 40,
    ],
)
def test_nothing_is_proposed_where_there_is_nothing(texts: list[str]) -> None:
    words = [words_of(text) for text in texts]
    assert propose(words, np.arange(40) % 4) == {}


def test_one_cluster_has_nothing_to_differ_from() -> None:
    assert propose([["cat"]] * 20, np.zeros(20, np.int64)) == {}


def test_the_order_of_images_does_not_count() -> None:
    words, clusters = captions(5, 200)
    order = np.random.default_rng(0).permutation(200)
    shuffled = propose([words[i] for i in order], np.array(clusters)[order])
    assert shuffled == propose(words, np.array(clusters))

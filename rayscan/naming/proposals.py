r"""Names of clusters by class-based TF-IDF (Grootendorst 2022, arXiv 2203.05794, Eq. 2).

    W_{t,c} = tf_{t,c} * log(1 + A / tf_t)

with tf_{t,c} the occurrences of term t in the texts of cluster c together, tf_t those in all clusters, and A
the mean number of terms of a cluster. A term is a word, or two in a row.

Deviation: the equation ranks; which terms may be proposed is decided before, since common words rank high
where texts are few, and no list of stop words knows every language. A term is proposed where it is with at
least MIN_IMAGES and MIN_SHARE of the images of a cluster, MIN_LIFT times as often as elsewhere, and more
often than chance would have it (hypergeometric, MAX_CHANCE). Stop words are as frequent everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import hypergeom
from sklearn.feature_extraction.text import CountVectorizer

from rayscan.types import Ints

MAX_NAMES = 3
MIN_IMAGES = 2
MIN_SHARE = 0.1
MIN_LIFT = 2.0
MAX_CHANCE = 0.01
SHARE_OF_PAIR = 0.5
"""A word is no proposal of its own where two words with it, proposed too, are with half of its images."""


def propose(words: Sequence[Sequence[str]], clusters: Ints) -> dict[int, list[str]]:
    """Names of clusters, best first; clusters without any are left out.

    Args:
        words: Of each image, in order, with an empty one between two texts [n].
        clusters: Of each image [n].
    """
    if not any(map(any, words)):
        return {}
    vectorizer = CountVectorizer(analyzer=terms_of)
    counts = vectorizer.fit_transform(words).astype(np.int64)
    terms = vectorizer.get_feature_names_out()
    numbers, at = np.unique(clusters, return_inverse=True)
    member = csr_matrix((np.ones(len(at), np.int64), (at, np.arange(len(at)))))
    tf, images = (member @ counts).tocsr(), (member @ (counts > 0).astype(np.int64)).tocsr()
    weights = ctfidf(tf)
    sizes, with_term = np.bincount(at), np.asarray(images.sum(axis=0)).ravel()
    found = {}
    for c, number in enumerate(numbers.tolist()):
        mine = slice(*images.indptr[c : c + 2])
        columns, inside = images.indices[mine], images.data[mine]
        kept = _is_telling(inside, with_term[columns], int(sizes[c]), len(at))
        weight = np.asarray(weights[c, columns[kept]].todense()).ravel()
        held = dict(zip(terms[columns[kept]].tolist(), inside[kept].tolist(), strict=True))
        ranked = sorted(zip(-weight, held, strict=True), key=lambda one: (one[0], -one[1].count(" "), one[1]))
        names = [term for _, term in ranked if _stands_alone(term, held)]
        if names:
            found[int(number)] = names[:MAX_NAMES]
    return found


def terms_of(words: Sequence[str]) -> list[str]:
    """Words, and two in a row; an empty one stands between texts."""
    pairs = (f"{one} {other}" for one, other in pairwise(words) if one and other)
    return [*filter(None, words), *pairs]


def ctfidf(tf: Any) -> Any:
    """W of every term in every cluster, from its occurrences, sparse [C, V] both."""
    average = tf.sum() / tf.shape[0]
    return tf.multiply(np.log(1 + average / np.asarray(tf.sum(axis=0)))).tocsr()


def _is_telling(inside: Ints, with_term: Ints, size: int, total: int) -> Any:
    """Whether terms are more frequent in a cluster than stop words and chance are.

    Args:
        inside: Images of the cluster with each term.
        with_term: Images with each term.
        size: Images of the cluster.
        total: Images.
    """
    elsewhere = (with_term - inside) / max(total - size, 1)
    is_many = (inside >= MIN_IMAGES) & (inside >= MIN_SHARE * size)
    is_more = is_many & (inside / size >= MIN_LIFT * elsewhere) & (size < total)
    chance = np.ones(len(inside))
    chance[is_more] = hypergeom.sf(inside[is_more] - 1, total, with_term[is_more], size)
    return chance <= MAX_CHANCE


def _stands_alone(term: str, held: dict[str, int]) -> bool:
    """Whether a term is a proposal beside the others of a cluster, `held`: term -> images."""
    if " " in term:
        return all(word in held for word in term.split(" "))
    pairs = [
        pair
        for pair in held
        if " " in pair and term in pair.split(" ") and all(w in held for w in pair.split(" "))
    ]
    return all(held[pair] < SHARE_OF_PAIR * held[term] for pair in pairs)

"""Class-based TF-IDF and the choice of terms, written out term by term."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from math import comb


def terms_of(words: Sequence[str]) -> list[str]:
    pairs = [words[at : at + 2] for at in range(len(words) - 1)]
    return [word for word in words if word] + [" ".join(pair) for pair in pairs if all(pair)]


def chance(inside: int, with_term: int, size: int, total: int) -> float:
    """That a cluster drawn blindly has at least so many images with the term."""
    ways = sum(
        comb(with_term, k) * comb(total - with_term, size - k)
        for k in range(inside, min(size, with_term) + 1)
    )
    return ways / comb(total, size)


def tellers(counts: dict[int, Counter[str]], sizes: Counter[int], cluster: int) -> dict[str, int]:
    """Terms that may be proposed for a cluster, and their images."""
    size, total, held = sizes[cluster], sum(sizes.values()), {}
    for term, inside in counts[cluster].items():
        with_term = sum(others[term] for others in counts.values())
        if size == total or inside < 2 or inside < 0.1 * size:
            continue
        if inside / size < 2 * (with_term - inside) / (total - size):
            continue
        if chance(inside, with_term, size, total) <= 0.01:
            held[term] = inside
    return held


def is_kept(term: str, held: dict[str, int]) -> bool:
    if " " in term:
        return all(word in held for word in term.split(" "))
    pairs = [p for p in held if term in p.split(" ") and " " in p and all(w in held for w in p.split(" "))]
    return all(held[pair] < held[term] / 2 for pair in pairs)


def slow_names(words: Sequence[Sequence[str]], clusters: Sequence[int]) -> dict[int, list[str]]:
    tf: dict[int, Counter[str]] = {c: Counter() for c in clusters}
    images: dict[int, Counter[str]] = {c: Counter() for c in clusters}
    for image, cluster in zip(words, clusters, strict=True):
        tf[cluster].update(terms_of(image))
        images[cluster].update(set(terms_of(image)))
    everywhere = sum(tf.values(), Counter())
    average = sum(everywhere.values()) / len(tf)
    found = {}
    for cluster in tf:
        held = tellers(images, Counter(clusters), cluster)
        weights = {
            t: tf[cluster][t] * math.log(1 + average / everywhere[t]) for t in held if is_kept(t, held)
        }
        ranked = sorted((-round(w, 9), -t.count(" "), t) for t, w in weights.items())
        if ranked:
            found[cluster] = [term for _, _, term in ranked[:3]]
    return found

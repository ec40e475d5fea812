"""Rows of assignments after edits, against sets of images that are changed one image at a time."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from rayscan.edits.clusters import EditedClusters
from rayscan.edits.operations import Join, Move, Operation, Rename, Waste
from rayscan.edits.rule import Rule
from tests.unit.edits.naive import SlowClusters, draw

NUM_CLUSTERS, NUM_IMAGES, TOP = 8, 60, 5


def assigned(seed: int, num_clusters: int = NUM_CLUSTERS) -> pa.Table:
    """Assignments of images by probabilities that were drawn; gids have gaps."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(num_clusters, 0.4), NUM_IMAGES).astype(np.float32)
    order = np.argsort(-probs, axis=1, kind="stable")[:, :TOP]
    best = np.take_along_axis(probs, order, axis=1)
    columns = {
        "gid": pa.array(np.arange(NUM_IMAGES) * 3, pa.int64()),
        "cluster": pa.array(order[:, 0], pa.int32()),
        "confidence": pa.array(best[:, 0]),
        "margin": pa.array(best[:, 0] - best[:, 1]),
        "second": pa.array(order[:, 1], pa.int32()),
        "second_confidence": pa.array(best[:, 1]),
        "top5": pa.array(order.tolist(), pa.list_(pa.int32())),
        "top5_probs": pa.array(best.tolist(), pa.list_(pa.float32())),
        "is_prototype": pa.array([False] * NUM_IMAGES),
        "note": pa.array([str(i) for i in range(NUM_IMAGES)]),
    }
    return pa.table(columns)


def names(num_clusters: int = NUM_CLUSTERS) -> dict[int, str]:
    return {number: f"cluster {number}" for number in range(num_clusters)}


def slow_of(table: pa.Table) -> SlowClusters:
    members: dict[int, set[int]] = {}
    for gid, cluster in zip(table["gid"].to_pylist(), table["cluster"].to_pylist(), strict=True):
        members.setdefault(cluster, set()).add(gid // 3)
    return SlowClusters(members, names())


def as_gids(operation: Operation) -> Operation:
    if isinstance(operation, Move):
        return Move(tuple(3 * int(image) for image in operation.images), operation.to)
    return operation


@pytest.mark.parametrize("seed", range(40))
def test_random_sequences_give_what_sets_of_images_give(seed: int) -> None:
    rng, table = random.Random(seed), assigned(seed)
    slow, edited = slow_of(table), EditedClusters(names())
    for _ in range(rng.randint(1, 25)):
        operation = draw(rng, slow, NUM_IMAGES)
        slow.do(operation)
        edited.apply([as_gids(operation)], "test")
    assert edited.numbers == slow.usable()
    assert {n: edited.names[n] for n in edited.numbers} == {n: slow.names[n] for n in slow.usable()}
    rows = Rule(edited).rows(table)
    after = Rule(edited).edit(table, np.zeros(NUM_IMAGES, bool)).to_pylist()
    for i, image in enumerate(table.to_pylist()):
        own, confidence, best = slow.row(i, image["top5"], image["top5_probs"])
        assert rows.clusters[i] == own
        assert rows.confidence[i] == pytest.approx(confidence, abs=1e-6)
        runner_up, second = best[1] if len(best) > 1 else (-1, 0.0)
        assert rows.margin[i] == pytest.approx(max(0.0, confidence - second), abs=1e-6)
        assert after[i]["second"] == runner_up
        assert after[i]["second_confidence"] == pytest.approx(second, abs=1e-6)
        shown = [(int(n), float(p)) for n, p in zip(rows.top[i], rows.probs[i], strict=True)]
        assert [n for n, _ in shown[: len(best)]] == [n for n, _ in best]
        assert [p for _, p in shown[: len(best)]] == pytest.approx([p for _, p in best], abs=1e-6)
        assert shown[len(best) :] == [(-1, 0.0)] * (TOP - len(best))


@pytest.mark.parametrize("seed", range(10))
def test_new_images_follow_the_clusters_and_not_the_moved_ones(seed: int) -> None:
    rng, table = random.Random(seed), assigned(seed)
    slow, edited = slow_of(table), EditedClusters(names())
    for _ in range(12):
        operation = draw(rng, slow, NUM_IMAGES)
        slow.do(operation)
        edited.apply([as_gids(operation)], "test")
    rows = Rule(edited, is_for_new=True).rows(table)
    for i, image in enumerate(table.to_pylist()):
        (number,) = [n for n, numbers in slow.found.items() if image["cluster"] in numbers]
        assert rows.clusters[i] == slow.shown(number)


def test_rows_of_untouched_clusters_keep_every_bit() -> None:
    table = assigned(3)
    edited = EditedClusters(names())
    edited.apply([Rename(0, "cats"), Join((2,), 1), Waste((4,)), Move((0,), 5)], "test")
    changed = Rule(edited).edit(table, np.zeros(NUM_IMAGES, bool))
    assert changed.schema == table.schema
    assert changed["note"] == table["note"]
    kept = [
        i
        for i, row in enumerate(table.to_pylist())
        if i and not {1, 2, 4} & set(row["top5"]) and row["cluster"] not in (1, 2, 4)
    ]
    assert kept
    assert changed.take(kept).to_pylist() == table.take(kept).to_pylist()


def test_edits_on_edited_rows_keep_waste_and_what_stands_for_no_cluster() -> None:
    """The assignments of a prediction may be edited ones already."""
    table = assigned(4)
    first = EditedClusters(names())
    first.apply([Join((1, 2), 0), Waste((3,))], "test")
    once = Rule(first).edit(table, np.zeros(NUM_IMAGES, bool))
    second = EditedClusters({n: first.names[n] for n in first.numbers}, first.next_number)
    second.apply([Join((4,), 5)], "test")
    twice = Rule(second).rows(once)
    both = EditedClusters(names())
    both.apply([Join((1, 2), 0), Waste((3,)), Join((4,), 5)], "test")
    at_once = Rule(both).rows(table)
    assert (twice.clusters == at_once.clusters).all()
    assert np.allclose(twice.confidence, at_once.confidence, atol=1e-6)
    assert (np.sort(twice.top) == np.sort(at_once.top)).all()

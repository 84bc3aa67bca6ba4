"""Hidden labels: which are seen, that the others are not, and the share of a batch that is labelled."""

import numpy as np
import pytest
import tensorflow as tf

from kzoo.data import array_source, evaluation_batches, training_stream
from kzoo.data.labels import choose_labels, hide_labels, labelled_places, labels_of
from kzoo.errors import DataError

SIZE, CLASSES = 60, ("a", "b", "c")


def source_of(labels):
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 1)).astype("uint8")
    return array_source("some", images, labels, CLASSES)


@pytest.fixture(scope="module")
def labels():
    labels = np.random.default_rng(1).integers(0, 3, SIZE)
    labels[:4] = -1
    return labels


def batches(source, count, start=0, **replicas):
    stream = training_stream(
        source, lambda batch, keys: {**batch, "key": keys}, batch_size=8, seed=3, start_step=start, **replicas
    )
    return [{key: value.numpy() for key, value in batch.items()} for batch in stream.take(count)]


class TestChoice:
    def test_labels_are_read_in_the_order_of_the_ids(self, labels):
        np.testing.assert_array_equal(labels_of(source_of(labels)), labels)

    def test_each_class_gives_as_many_and_a_larger_choice_holds_the_smaller(self, labels):
        few, more = (choose_labels(labels, CLASSES, seed=5, per_class=count) for count in (2, 6))
        assert np.bincount(labels[few]).tolist() == [2, 2, 2]
        assert set(few) < set(more)

    def test_a_fraction_is_rounded_and_at_least_one(self):
        labels = np.repeat([0, 1, 2, -1], [25, 14, 3, 9])
        chosen = choose_labels(labels, CLASSES, seed=0, fraction=0.1)
        assert np.bincount(labels[chosen]).tolist() == [3, 1, 1]

    def test_the_seed_decides_and_other_classes_do_not(self, labels):
        first, other = (choose_labels(labels, CLASSES, seed=seed, per_class=5) for seed in (0, 1))
        assert set(first) != set(other)
        without_c = np.where(labels == 2, -1, labels)
        again = choose_labels(without_c, CLASSES[:2], seed=0, per_class=5)
        assert set(again) == {number for number in first if labels[number] != 2}

    def test_more_than_there_are_is_refused(self, labels):
        with pytest.raises(DataError, match=r"per_class: 40 is more than the .* labelled examples of class 'a'"):
            choose_labels(labels, CLASSES, seed=0, per_class=40)


class TestHidden:
    def test_only_the_chosen_labels_are_decoded(self, labels):
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=3)
        hidden = hide_labels(source_of(labels), chosen)
        expected = np.full(SIZE, -1)
        expected[chosen] = labels[chosen]
        np.testing.assert_array_equal(labels_of(hidden), expected)
        [batch] = evaluation_batches(hidden, SIZE)
        np.testing.assert_array_equal(batch["label"], expected)

    def test_other_hidden_labels_give_the_same_batches(self, labels):
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=3)
        others = np.setdiff1d(np.arange(SIZE), chosen)
        moved = labels.copy()
        moved[others] = np.random.default_rng(2).permutation(labels[others])
        assert (moved != labels).any()
        for share in (None, 0.5):
            one, two = (batches(hide_labels(source_of(some), chosen, share), 20) for some in (labels, moved))
            for a, b in zip(one, two, strict=True):
                for key in a:
                    np.testing.assert_array_equal(a[key], b[key])

    def test_without_a_share_the_order_is_that_of_all_examples(self, labels):
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=3)
        plain, hidden = batches(source_of(labels), 9), batches(hide_labels(source_of(labels), chosen), 9)
        for a, b in zip(plain, hidden, strict=True):
            np.testing.assert_array_equal(a["id"], b["id"])
            np.testing.assert_array_equal(b["label"], np.where(np.isin(a["id"], chosen), a["label"], -1))


class TestShare:
    @pytest.mark.parametrize(("share", "count"), [(0.5, 4), (0.25, 2), (0.01, 1), (1.0, 8)])
    def test_a_batch_has_just_as_many_and_they_are_spread(self, labels, share, count):
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=2)
        for batch in batches(hide_labels(source_of(labels), chosen, share), 15):
            seen = batch["label"] >= 0
            assert seen.sum() == count
            assert set(batch["id"][seen]) <= set(chosen)
            np.testing.assert_array_equal(batch["label"][seen], labels[batch["id"][seen]])
            assert abs(int(seen[:4].sum()) - int(seen[4:].sum())) <= 1

    def test_labelled_examples_come_round_evenly_and_the_others_once(self, labels):
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=2)
        epoch = batches(hide_labels(source_of(labels), chosen, 0.5), SIZE // 8)
        ids, seen = (np.concatenate([value(batch) for batch in epoch]) for value in (_ids, _seen))
        times = np.bincount(ids[seen], minlength=SIZE)[chosen]
        assert times.sum() == 28
        assert set(times) == {4, 5}
        assert np.bincount(ids[~seen]).max() == 1
        assert len(np.unique(ids[seen][:6])) == 6

    def test_repeated_examples_have_keys_of_their_own_and_epochs_other_orders(self, labels):
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=1)
        found = batches(hide_labels(source_of(labels), chosen, 1.0), 14)
        keys = np.concatenate([batch["key"] for batch in found])
        assert len(np.unique(keys)) == len(keys)
        first, second = ([list(_ids(batch)) for batch in some] for some in (found[:7], found[7:]))
        assert first != second

    def test_it_starts_anywhere_and_replicas_see_together_what_one_sees(self, labels):
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=2)
        hidden = hide_labels(source_of(labels), chosen, 0.5)
        whole = batches(hidden, 16)
        for start in (3, 7, 9):
            for a, b in zip(whole[start:], batches(hidden, 16 - start, start), strict=True):
                for key in a:
                    np.testing.assert_array_equal(a[key], b[key])
        parts = [batches(hidden, 16, shard_index=index, shard_count=4) for index in range(4)]
        for step, expected in enumerate(whole):
            for key in expected:
                joined = np.concatenate([part[step][key] for part in parts])
                np.testing.assert_array_equal(joined, expected[key])
            assert all((part[step]["label"] >= 0).sum() == 1 for part in parts)

    def test_records_work_as_well_as_rows(self, labels, tmp_path):
        """A source whose raw elements hold bytes, decoded one by one."""
        from dataclasses import replace

        source = source_of(labels)

        def examples(seed=None):
            return source.examples(seed).map(lambda row: {"row": row, "text": tf.strings.as_string(row)})

        def decode(raw):
            return source.decode(tf.strings.to_number(raw["text"], tf.int64))

        records = replace(source, examples=examples, decode=decode, batched=False)
        chosen = choose_labels(labels, CLASSES, seed=0, per_class=2)
        np.testing.assert_array_equal(labels_of(records), labels)
        for a, b in zip(
            *(batches(hide_labels(some, chosen, 0.5), 10) for some in (source, records)),
            strict=True,
        ):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])

    def test_none_to_draw_from_is_refused(self, labels):
        with pytest.raises(DataError, match="no example has a label"):
            hide_labels(source_of(np.full(SIZE, -1)), np.array([], np.int64), 0.5)

    def test_places(self):
        assert labelled_places(8, 0.5).tolist() == [False, True] * 4
        assert labelled_places(6, 1 / 3).tolist() == [False, False, True] * 2


def _ids(batch):
    return batch["id"]


def _seen(batch):
    return batch["label"] >= 0

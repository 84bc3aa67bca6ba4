"""Text and images do not mix, and the vocabulary travels with what is trained."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.errors import RecipeError
from kzoo.export.layout import METADATA
from kzoo.export.write import export_backbone
from kzoo.recipe.load import load

RECIPE = "name: a\ndata: {{name: {}}}\nbackbone: {{name: {}}}\nmethod: {{name: {}}}\n"


@pytest.mark.parametrize(
    ("data", "backbone", "method", "problem"),
    [
        ("digits", "bert_tiny", "simcse", "data.name: 'digits' is for image, method 'simcse' for text"),
        ("python_docs", "convnet4", "simclr", "data.name: 'python_docs' is for text, method 'simclr' for image"),
        ("digits", "bert_tiny", "simclr", "backbone.name: 'bert_tiny' is for text, method 'simclr' for image"),
        ("'text:a/b.txt'", "convnet4", "simcse", "backbone.name: 'convnet4' is for image, method 'simcse' for text"),
    ],
)
def test_image_and_text_are_not_mixed(data, backbone, method, problem, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(data, backbone, method))
    with pytest.raises(RecipeError) as caught:
        load(path)
    [found] = caught.value.problems
    assert found.endswith(problem)
    path.write_text(RECIPE.format("'text:a/b.txt'", "bert_tiny", "masked_language_model"))
    assert load(path).data.name == f"text:{Path('a/b.txt').absolute()}"  # as it was meant where the command was typed


def test_the_vocabulary_goes_with_the_export(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    source = kzoo.open_dataset(f"text:{path}", length=16, vocabulary=256)
    backbone = kzoo.build_backbone("bert_tiny", (16, len(source.vocabulary)), layers=1)
    folder = export_backbone(backbone, tmp_path / "exports", name="a", metadata={}, vocabulary=source.vocabulary)
    kept = json.loads((folder / METADATA).read_text())
    assert tuple(kept["input"]["vocabulary"]) == source.vocabulary
    tokens = source.decode(tf.range(3, dtype=tf.int64))["tokens"]
    served = tf.saved_model.load(str(folder)).signatures["serving_default"](tokens=tokens)["embedding"]
    np.testing.assert_allclose(served, backbone(tokens, training=False)["embedding"], atol=1e-5)


def test_replicas_with_passages_of_all_lengths_train_as_one():
    """Passages weigh by the words that are asked for, so the mean of the replicas' means would be another loss."""
    code = textwrap.dedent("""
        import sys
        import numpy as np
        from kzoo.distribute import devices
        from kzoo.data import text_source
        from kzoo.testing.replicas import train_on_replicas
        from kzoo.text import SPECIAL
        import kzoo
        devices.split_cpu(2)
        rng = np.random.default_rng(0)
        def rows():
            tokens = rng.integers(5, 60, (16, 24)).astype("int32")
            words = np.where(np.arange(16) % 8 < 4, 3, 22)  # of each batch of 8 the first replica's are short
            tokens[:, 0] = 2
            tokens[np.arange(16), words + 1] = 3
            tokens[np.arange(24) > words[:, None] + 1] = 0
            return tokens
        source = text_source("t", rows(), (*SPECIAL, *map(str, range(55))), more={"next": rows(), "other": rows()})
        def train(count):
            def build():
                backbone = kzoo.build_backbone("bert_tiny", (24, 60), layers=1)
                return kzoo.build_method("masked_language_model", backbone=backbone, next_sentence=True)
            return train_on_replicas(build, count, images=source, batch_size=8, steps=4)
        one, two = train(1), train(2)
        print(one.distance(two), one.losses)
        assert one.distance(two) < 1e-10
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]

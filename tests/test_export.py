"""The export: what it answers, what it refuses, and that a reader never sees half of one."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.data.resize import to_uint8
from kzoo.errors import ExportError
from kzoo.export import parity, saved_model, write
from kzoo.export.check_ops import SavedModel, check_ops
from kzoo.export.layout import METADATA
from kzoo.export.pixels import serve_images
from kzoo.export.preprocess import MAX_SIDE
from kzoo.folder.images import read_image
from kzoo.system.files import new_folder
from kzoo.text import SPECIAL

SIZE = (12, 12, 3)
WIDTH = 5


def make_backbone(size=SIZE):
    keras.utils.set_random_seed(3)
    image = keras.Input(size)
    x = keras.layers.Conv2D(7, 3, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(WIDTH, 3, activation="relu")(keras.layers.Dropout(0.5)(x))
    model = keras.Model(image, {"embedding": keras.layers.GlobalAveragePooling2D()(x), "map": x})
    model.layers[2].moving_mean.assign(np.linspace(-0.2, 0.2, 7))
    return model


@pytest.fixture(scope="module")
def backbone():
    return make_backbone()


@pytest.fixture(scope="module")
def exported(backbone, tmp_path_factory):
    # "brightness" can be worked out by hand: the mean of the float image the signature is given.
    return write.export_backbone(
        backbone,
        tmp_path_factory.mktemp("exports"),
        name="tiny",
        metadata={"recipe": "quickstart", "name": "never over the real name"},
        signatures={"brightness": lambda image: {"mean": tf.reduce_mean(image, [1, 2, 3])}},
    )


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


def images(n, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size), np.uint8)


def expected(backbone, pixels):
    return backbone(pixels.astype(np.float32) / 255, training=False)["embedding"].numpy()


def read(path):
    saved = SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    return saved


CLIENT = """
import sys
sys.modules["keras"] = sys.modules["kzoo"] = None  # importing either now fails
import numpy as np, tensorflow as tf
path, data = sys.argv[1:]
data = np.load(data, allow_pickle=False)
served = tf.saved_model.load(path).signatures
for n in (1, 3, 64):
    answer = served["serving_default"](image=tf.constant(data["images"][:n]))["embedding"].numpy()
    assert answer.dtype == np.float32 and np.abs(answer - data["embedding"][:n]).max() <= 1e-5, n
files = [tf.io.encode_png(image) for image in data["images"][:3]]
answer = served["serve_bytes"](image_bytes=tf.stack(files))["embedding"].numpy()
assert np.abs(answer - data["embedding"][:3]).max() <= 1e-6
def refused(name, **arguments):
    try:
        served[name](**arguments)
    except (tf.errors.InvalidArgumentError, TypeError, ValueError):
        return True
    return False
right = data["images"][:1]
assert refused("serving_default", image=tf.constant(right[:, :-1]))
assert refused("serving_default", image=tf.constant(right[..., :1]))
assert refused("serving_default", image=tf.constant(right[0]))
assert refused("serving_default", image=tf.constant(right.astype(np.float32)))
assert refused("serve_bytes", image_bytes=tf.constant(["just some text"]))
assert refused("serve_bytes", image_bytes=tf.constant([[files[0].numpy()]]))
answer = served["serving_default"](image=tf.constant(right))["embedding"].numpy()  # still alive, still right
assert np.abs(answer - data["embedding"][:1]).max() <= 1e-5
assert sys.modules["keras"] is None and sys.modules["kzoo"] is None
print("served")
"""


def test_it_answers_with_tensorflow_alone(backbone, exported, tmp_path):
    pixels = images(64)
    np.savez(tmp_path / "data.npz", images=pixels, embedding=expected(backbone, pixels))
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(exported), str(tmp_path / "data.npz")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=300,
    )
    assert done.stdout.strip() == "served", done.stderr


def test_the_layout_and_the_metadata(exported):
    assert exported.name == "1"
    assert {path.name for path in exported.iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}
    facts = json.loads((exported / METADATA).read_text())
    assert facts["recipe"] == "quickstart"
    assert facts["name"] == "tiny"
    takes = {"height": 12, "width": 12, "channels": 3, "type": "uint8", "bits": 16}
    assert takes.items() <= facts["input"].items()
    assert facts["embedding_width"] == WIDTH
    assert list(facts["signatures"]) == ["brightness", "serve_bytes", "serving_default"]


def test_the_signatures_are_declared_as_promised(loaded):
    pixels, files = loaded.signatures["serving_default"], loaded.signatures["serve_bytes"]
    assert pixels.structured_input_signature[1] == {"image": tf.TensorSpec([None, *SIZE], tf.uint8, "image")}
    assert files.structured_input_signature[1] == {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}
    for signature in (pixels, files):
        assert signature.structured_outputs["embedding"].dtype == tf.float32
        assert signature.structured_outputs["embedding"].shape.as_list() == [None, WIDTH]


def test_it_holds_the_backbone_and_nothing_else(backbone, exported, loaded):
    saved = tf.train.load_checkpoint(str(exported / "variables" / "variables"))
    sizes = sorted(np.prod(s) for s in saved.get_variable_to_shape_map().values() if s)
    assert sizes == sorted(np.prod(w.shape) for w in backbone.weights)  # dropout's random state is not among them
    assert not hasattr(loaded, "layers")


def test_further_signatures_see_floats_in_zero_to_one(loaded):
    pixels = np.full((2, *SIZE), 51, np.uint8)
    np.testing.assert_allclose(
        loaded.signatures["brightness"](image=tf.constant(pixels))["mean"], [0.2, 0.2], rtol=1e-6
    )


def test_an_empty_batch_is_refused(loaded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="image: an empty batch"):
        loaded.signatures["serving_default"](image=tf.zeros([0, *SIZE], tf.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes: an empty batch"):
        loaded.signatures["serve_bytes"](image_bytes=tf.constant([], tf.string))


# ---- files -----------------------------------------------------------------------------------------------------------


def serve(loaded, *files):
    return loaded.signatures["serve_bytes"](image_bytes=tf.constant(list(files)))["embedding"].numpy()


def png(pixels):
    return tf.io.encode_png(pixels).numpy()


def png_declaring(height, width):
    """A well-formed, tiny PNG file whose header asks for height x width pixels."""

    def chunk(kind, body):
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_jpeg_is_embedded_as_its_decoded_pixels(backbone, loaded):
    file = tf.io.encode_jpeg(images(1)[0], quality=95).numpy()
    pixels = read_image(file)[None]
    np.testing.assert_allclose(serve(loaded, file), expected(backbone, pixels), atol=1e-6)


def test_files_of_different_sizes_share_a_batch(backbone, loaded):
    # A grey picture of any size is the same grey picture after scaling and cropping.
    grey = [np.full((h, w, 3), 90, np.uint8) for h, w in ((12, 12), (50, 31), (7, 100), (3, 3))]
    wanted = expected(backbone, np.full((1, *SIZE), 90, np.uint8))
    np.testing.assert_allclose(serve(loaded, *map(png, grey)), np.repeat(wanted, 4, 0), atol=1e-6)


def test_a_wide_picture_keeps_its_centre(backbone, loaded):
    # 12 x 30: the height fits, so the twelve columns in the middle are kept as they are.
    wide = images(1, (12, 30, 3))[0]
    np.testing.assert_allclose(serve(loaded, png(wide)), expected(backbone, wide[None, :, 9:21]), atol=1e-6)


def test_a_file_is_prepared_as_for_training(backbone, loaded):
    file = png(images(1, (40, 29, 3))[0])
    wanted = expected(backbone, read_image(file, 12)[None])
    np.testing.assert_allclose(serve(loaded, file), wanted, atol=0.002)  # one unit of 255 at most


def test_a_backbone_that_is_not_square_takes_its_own_size_only(tmp_path):
    oblong = make_backbone((12, 10, 1))
    served = tf.saved_model.load(str(write.export_backbone(oblong, tmp_path, name="x", metadata={})))
    pixels = images(2, (12, 10, 1))
    np.testing.assert_allclose(serve(served, *map(png, pixels)), expected(oblong, pixels), atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"12 x 10 pixels. Received:.*10 12"):
        serve(served, png(images(1, (10, 12, 1))[0]))


def test_grey_files_are_given_three_channels(backbone, loaded):
    grey = images(1, (12, 12, 1))
    np.testing.assert_allclose(serve(loaded, png(grey[0])), expected(backbone, np.repeat(grey, 3, -1)), atol=1e-6)


GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
BMP = (
    b"BM" + (58).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little") + bytes(40)
)
REFUSED = {
    "text": (b"name,age\nkim,7\n", "image_bytes: not a JPEG or PNG"),
    "empty": (b"", "image_bytes: an empty file"),
    "gif": (GIF, "image_bytes: a GIF file; send a JPEG or PNG"),
    "bmp": (BMP, "image_bytes: a BMP file; send a JPEG or PNG"),
    "png signature only": (b"\x89PNG\r\n\x1a\n", "image_bytes: a PNG file whose data ends early"),
    "png of no width": (png_declaring(4, 0), "sides must be"),
    "png too wide": (png_declaring(4, MAX_SIDE + 1), r"sides must be 1 to 4096 pixels.*4 4097"),
    "png too high": (png_declaring(2**31 - 1, 4), r"sides must be 1 to 4096 pixels.*2147483647 4"),
    "png truncated": (png(images(1, (40, 40, 3))[0])[:-300], "a PNG file whose data ends early"),
    "jpeg start only": (b"\xff\xd8\xff\xe0", "a JPEG file whose data ends early"),
    "jpeg truncated": (
        tf.io.encode_jpeg(images(1, (40, 40, 3))[0]).numpy()[:-300],
        "a JPEG file whose data ends early",
    ),
    "jpeg too high": (tf.io.encode_jpeg(np.zeros((4097, 1, 1), np.uint8)).numpy(), r"sides must be.*4097 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_it_cannot_trust_is_refused_and_the_next_is_answered(case, backbone, loaded):
    file, message = REFUSED[case]
    good = png(images(1)[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        serve(loaded, good, file)
    np.testing.assert_allclose(serve(loaded, good), expected(backbone, images(1)), atol=1e-6)


def test_the_largest_allowed_side_is_allowed_whatever_the_other_is(backbone, loaded):
    wanted = expected(backbone, np.full((1, *SIZE), 90, np.uint8))
    np.testing.assert_allclose(serve(loaded, png(np.full((2, MAX_SIDE, 1), 90, np.uint8))), wanted, atol=1e-6)


# ---- one preprocessing: what `serve_bytes` sees is what training's reader saw ---------------------------------------


def test_an_export_is_checked_on_files_of_ten_kinds_and_says_what_it_found(exported):
    found = json.loads((exported / METADATA).read_text())["formats"]["saved_model"]["parity"]
    assert found["limit"] == parity.LIMIT == 0.01
    assert len(found["files"]) == 10
    assert {kind for kind, value in found["files"].items() if isinstance(value, str)} == {"cmyk", "webp"}
    assert found["files"]["webp"] == "refused: a WebP file; send a JPEG or PNG file"
    assert max(value for value in found["files"].values() if not isinstance(value, str)) <= 0.01


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"_turned": lambda image, orientation: image}, "exif 3"),
        ({"MID_GREY": 0}, "alpha"),
        ({"resize_bytes": lambda image, size: to_uint8(tf.image.resize(image, [size, size]))}, "plain"),
    ],
)
def test_an_export_that_sees_something_else_is_refused(backbone, tmp_path, monkeypatch, fault, kind):
    for name, value in fault.items():
        monkeypatch.setattr(f"kzoo.export.preprocess.{name}", value)
    with pytest.raises(ExportError, match=f"a file of kind '{kind}' differs from that of training's pixels by"):
        write.export_backbone(backbone, tmp_path, name="x", metadata={})
    assert list((tmp_path / "x").iterdir()) == []


def test_an_export_that_answers_what_it_must_refuse_is_refused(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "REFUSED", ("plain",))
    monkeypatch.setattr(
        parity, "files_of_each_kind", lambda photo, size: {"plain": png(images(1)[0]), "other": png(images(1)[0])}
    )
    with pytest.raises(ExportError, match=r"'plain' differs .* by nan%"):
        write.export_backbone(backbone, tmp_path, name="x", metadata={})


# ---- what is refused before anything is written ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "..", "../out", "a/b", ".hidden", "a b"])
def test_a_name_is_one_plain_folder(backbone, tmp_path, name):
    with pytest.raises(ExportError, match="export name"):
        write.export_backbone(backbone, tmp_path, name=name, metadata={})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: make_backbone((None, None, 3)), "needs images"),
        (lambda: make_backbone((12, 10, 4)), "needs images"),
        (lambda: keras.Sequential([keras.Input(SIZE), keras.layers.GlobalAveragePooling2D()]), "no output named"),
    ],
)
def test_a_backbone_that_cannot_be_served_is_refused(model, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        write.export_backbone(model(), tmp_path, name="x", metadata={})
    assert not any(tmp_path.iterdir())


def test_the_own_signatures_cannot_be_replaced(backbone, tmp_path):
    with pytest.raises(ExportError, match="serving_default"):
        write.export_backbone(
            backbone, tmp_path, name="x", metadata={}, signatures={"serving_default": lambda x: {"y": x}}
        )


# ---- versions and interruptions --------------------------------------------------------------------------------------


def test_nothing_is_overwritten(backbone, tmp_path):
    first = write.export_backbone(backbone, tmp_path, name="x", metadata={})
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert write.export_backbone(backbone, tmp_path, name="x", metadata={}) == tmp_path / "x" / "2"
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    (tmp_path / "x" / "7").touch()
    assert write.export_backbone(backbone, tmp_path, name="x", metadata={}).name == "8"


def test_what_a_killed_exporter_left_is_removed_and_what_another_is_writing_is_not(backbone, tmp_path):
    with new_folder(tmp_path / "x" / "5") as being_written:
        left = tmp_path / "x" / ".scratch.1.killed"  # its lock went with its process
        (left / "variables").mkdir(parents=True)
        (left / "saved_model.pb").touch()
        write.export_backbone(backbone, tmp_path, name="x", metadata={})
        assert not left.exists()
        assert being_written.exists()
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["1", "5"]


@pytest.mark.parametrize("stage", ["check_ops", "self_check"])
def test_an_interrupted_export_leaves_nothing(backbone, tmp_path, monkeypatch, stage):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved_model, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write.export_backbone(backbone, tmp_path, name="x", metadata={})
    assert list((tmp_path / "x").iterdir()) == []


def test_before_the_last_check_there_is_no_version_to_serve(backbone, tmp_path, monkeypatch):
    seen = []  # what a kill at this moment would leave
    monkeypatch.setattr(saved_model, "self_check", lambda path, *_: seen.extend(p.name for p in path.parent.iterdir()))
    write.export_backbone(backbone, tmp_path, name="x", metadata={})
    assert len(seen) == 1
    assert not seen[0].isdigit()


def test_two_exporters_at_once_get_two_versions(backbone, tmp_path, monkeypatch):
    # The second exporter starts and ends while the first, which has chosen version 1, is still writing.
    check = saved_model.self_check
    others = []

    def overtaken(*arguments):
        monkeypatch.setattr(saved_model, "self_check", check)
        others.append(write.export_backbone(backbone, tmp_path, name="x", metadata={"who": "second"}))
        check(*arguments)

    monkeypatch.setattr(saved_model, "self_check", overtaken)
    first = write.export_backbone(backbone, tmp_path, name="x", metadata={"who": "first"})
    assert (others[0].name, first.name) == ("1", "2")
    assert [json.loads((path / METADATA).read_text())["who"] for path in (first, *others)] == ["first", "second"]
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"1", "2"}


# ---- the two checks --------------------------------------------------------------------------------------------------


def test_self_check_passes_and_notices_a_moved_weight(exported):
    other = make_backbone()
    served = serve_images(other, None, 16, {})
    saved_model.self_check(exported, other, served)
    kernel = other.layers[1].kernel
    kernel.assign(kernel + 1e-3)
    with pytest.raises(ExportError, match="differs from the backbone"):
        saved_model.self_check(exported, other, served)


def test_weights_that_are_not_numbers_are_not_exported(tmp_path):
    model = make_backbone()
    model.layers[1].kernel.assign(np.full((3, 3, 3, 7), np.nan))
    with pytest.raises(ExportError, match="differs from the backbone"):
        write.export_backbone(model, tmp_path, name="x", metadata={})
    assert list((tmp_path / "x").iterdir()) == []


def test_an_export_only_computes(exported):
    check_ops(exported)


def save(path, function):
    module = tf.Module()
    module.counter = tf.Variable(0.0)
    spec = tf.TensorSpec([None], tf.float32, name="x")
    bound = tf.function(lambda x: {"y": function(module, x)}, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures=bound.get_concrete_function())


def write_a_file(module, x):
    tf.io.write_file("owned", "by the model")
    return x


def write_inside_a_branch(module, x):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: write_a_file(module, x), lambda: x)


def read_a_file(module, x):
    return x + tf.cast(tf.strings.length(tf.io.read_file("secret")), tf.float32)


def count_calls(module, x):
    module.counter.assign_add(1.0)
    return x + module.counter


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (write_a_file, "WriteFile"),
        (write_inside_a_branch, "WriteFile"),
        (read_a_file, "ReadFile"),
        (count_calls, "AssignAddVariableOp"),
        (lambda module, x: tf.py_function(lambda y: y, [x], tf.float32), "EagerPyFunc"),
        (lambda module, x: x + tf.random.uniform(tf.shape(x)), "RandomUniform"),
    ],
)
def test_check_ops_refuses_what_does_more_than_compute(function, operation, tmp_path):
    save(tmp_path, function)
    with pytest.raises(ExportError, match=rf"\b{operation} in "):
        check_ops(tmp_path)


def test_check_ops_passes_what_computes(tmp_path):
    save(tmp_path, lambda module, x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * module.counter, lambda: x))
    check_ops(tmp_path)


def test_check_ops_looks_inside_the_saver(exported, tmp_path):
    saved = read(exported)
    graph = saved.meta_graphs[0]
    saver = next(n for n in graph.graph_def.node if n.name == graph.saver_def.restore_op_name).attr["f"].func.name
    function = next(f for f in graph.graph_def.library.function if f.signature.name == saver)
    function.node_def.add(name="hidden", op="WriteFile")
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ExportError, match="WriteFile in __inference__traced_restore"):
        check_ops(tmp_path)


def test_check_ops_refuses_an_answer_that_calls_the_saver(exported, tmp_path):
    saved = read(exported)
    graph = saved.meta_graphs[0]
    saver = graph.saver_def.save_tensor_name.split(":")[0]
    call = next(node for node in graph.graph_def.node if node.name == saver)
    graph.graph_def.node.add().CopyFrom(call)
    graph.graph_def.node[-1].name = "second"
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ExportError, match="SaveV2 in __inference__traced_save"):
        check_ops(tmp_path)


def test_a_signature_with_a_side_effect_is_not_exported(backbone, tmp_path):
    def spy(image):
        tf.print(tf.shape(image))
        return {"same": image}

    with pytest.raises(ExportError, match="PrintV2"):
        write.export_backbone(backbone, tmp_path, name="x", metadata={}, signatures={"spy": spy})
    assert list((tmp_path / "x").iterdir()) == []


def test_no_path_of_this_machine_is_in_the_export(exported):
    content = b"".join(path.read_bytes() for path in exported.rglob("*") if path.is_file())
    assert b"serving_default" in content
    places = [Path.cwd(), Path.home(), exported.parent, Path(sys.prefix), Path(write.__file__).parent]
    assert [str(place) for place in places if len(place.parts) > 1 and str(place).encode() in content] == []


def test_half_precision_is_answered_in_float32(tmp_path):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        path = write.export_backbone(make_backbone(), tmp_path, name="x", metadata={})
    finally:
        keras.config.set_dtype_policy(previous)
    answer = tf.saved_model.load(str(path)).signatures["serving_default"](image=tf.constant(images(2)))
    assert answer["embedding"].dtype == tf.float32


def test_a_backbone_of_text_answers_tokens(tmp_path):
    """And refuses numbers that stand for nothing, which a lookup on a GPU would answer with zeros."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    embedded = keras.layers.Embedding(9, 4)(tokens)
    backbone = keras.Model(tokens, {"embedding": keras.layers.GlobalAveragePooling1D()(embedded)})
    vocabulary = (*SPECIAL, "a", "b", "c", "d")
    path = write.export_backbone(backbone, tmp_path, name="words", metadata={}, vocabulary=vocabulary)
    assert json.loads((path / METADATA).read_text())["input"]["vocabulary"] == list(vocabulary)
    answer = tf.saved_model.load(str(path)).signatures["serving_default"]
    given = np.random.default_rng(1).integers(0, 9, (5, 6)).astype("int32")
    np.testing.assert_allclose(answer(tokens=tf.constant(given))["embedding"], backbone(given)["embedding"], atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="tokens: numbers must lie in 0 to 8"):
        answer(tokens=tf.constant(given + 8))
    with pytest.raises(tf.errors.InvalidArgumentError):
        answer(tokens=tf.constant(given[:, :5]))


def test_a_signature_that_answers_otherwise_than_its_function_is_refused(backbone, tmp_path):
    def drifting(image):  # its export adds 1
        return {"value": tf.reduce_mean(image, [1, 2, 3]) + (0.0 if tf.executing_eagerly() else 1.0)}

    with pytest.raises(ExportError, match="differs from the method's 'drifting' by"):
        write.export_backbone(backbone, tmp_path, name="a", metadata={}, signatures={"drifting": drifting})
    assert not list(tmp_path.glob("a/*"))

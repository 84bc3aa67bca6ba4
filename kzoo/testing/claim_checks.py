"""What a backbone's record claims beside its outputs: abilities, strides. Each claim is tried."""

from collections.abc import Mapping
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from kzoo import patches
from kzoo.errors import OptionsError
from kzoo.plugins import targets
from kzoo.specs import ABILITIES, PATCH_ABILITIES
from kzoo.testing.close import close
from kzoo.testing.subjects import BackboneSubject, outputs_in_training


def check_abilities(subject: BackboneSubject) -> None:
    """It can what its record says it can, and says what it can: patches of an image, dropout."""
    claimed = set(subject.setup.spec.abilities)
    if unknown := sorted(claimed - set(ABILITIES)):
        raise subject.fault(f"it claims {', '.join(unknown)}", f"abilities are {', '.join(ABILITIES)}")
    _check_patches(subject, claimed & set(PATCH_ABILITIES))
    _check_dropout(subject, "dropout" in claimed)


def _check_patches(subject: BackboneSubject, claimed: set[str]) -> None:
    try:
        found = patches.patches_of(subject.model, *claimed)
    except OptionsError:
        if claimed:
            raise subject.fault(
                f"it claims {', '.join(sorted(claimed))}, and its graph lacks the layer",
                "put MaskedPatches and KeptPatches of kzoo.patches in it, or claim less",
            ) from None
        return
    if more := sorted(found.abilities - claimed):
        raise subject.fault(f"it can do {', '.join(more)}, which its record does not claim", "name it in abilities")
    images = tf.constant(subject.inputs)
    count = subject.model(images)["tokens"].shape[1]
    if images.shape.rank == 4:  # of a video a token is a cube of pixels, and its method knows which
        rows, columns = found.grid(images)
        if rows * found.size != images.shape[1] or rows * columns != count:
            raise subject.fault(
                f"{rows * columns} patches of {found.size} pixels are not its tokens", "give KeptPatches the patch size"
            )
    side = getattr(targets.validate_options(subject.setup.spec, subject.setup.options), "patch_size", None)
    if side not in (None, found.size):  # None: what a preset says
        raise subject.fault(
            f"its option patch_size is {side}, its patches have {found.size} pixels", "give KeptPatches the option"
        )
    if "token_subset" in claimed:
        _check_subset(subject, found.size, count, images)
    if "masked_tokens" in claimed:
        _check_masked(subject, found, count, images)


def _check_dropout(subject: BackboneSubject, claimed: bool) -> None:
    """With its option `dropout` above 0, training leaves out features by the example's key."""
    spec, setup = subject.setup.spec, subject.setup
    if claimed != ("dropout" in spec.options.model_fields):
        has = "claims dropout, and has no such option" if claimed else "has the option dropout, and does not claim it"
        raise subject.fault(f"it {has}", "let the option `dropout` and the ability of its record go together")
    if not claimed:
        return
    keras.utils.set_random_seed(0)
    model = replace(setup, options={**setup.options, "dropout": 0.5}).build(subject.size, setup.examples.depth)
    first, again = outputs_in_training(model, subject.inputs), outputs_in_training(model, subject.inputs)
    others = outputs_in_training(model, subject.inputs, first_key=len(subject.inputs))
    if not close(first["embedding"], again["embedding"]) or close(first["embedding"], others["embedding"]):
        raise subject.fault(
            "with dropout at 0.5 the embedding in training is not decided by the examples' keys",
            "leave out with kzoo.layers.Dropout",
        )


def _check_subset(subject: BackboneSubject, size: int, count: int, images: tf.Tensor) -> None:
    """All patches are the ordinary answer; their order does not matter; what is left out has no influence."""
    whole, everything = subject.model(images), tf.range(count)[None] + tf.zeros((len(images), 1), tf.int32)
    for name, value in patches.encode_kept(subject.model, images, everything).items():
        if not close(whole[name], value):
            raise subject.fault(
                f"with all patches kept, output '{name}' is not the ordinary one",
                "let nothing but KeptPatches choose the tokens, and positions be added before it",
            )
    order = np.argsort(np.random.default_rng(0).uniform(size=(len(images), count)), axis=1)
    kept = np.sort(order[:, : max(1, count // 2)], axis=1)
    once = patches.encode_kept(subject.model, images, tf.constant(kept, tf.int32))
    again = patches.encode_kept(subject.model, images, tf.constant(kept[:, ::-1], tf.int32))
    if not (close(once["embedding"], again["embedding"]) and close(once["tokens"], again["tokens"][:, ::-1])):
        raise subject.fault(
            "the answer for some patches depends on their order", "let a token's position be that of its patch"
        )
    if images.shape.rank != 4:
        return
    hidden = np.ones((len(images), count), bool)
    np.put_along_axis(hidden, kept, values=False, axis=1)
    other = patches.encode_kept(subject.model, _repainted(images, hidden, size), tf.constant(kept, tf.int32))
    if not all(np.array_equal(once[name], other[name]) for name in once):
        raise subject.fault(
            "patches that are left out have an influence", "cut the patches apart before anything mixes them"
        )


def _check_masked(subject: BackboneSubject, found: patches.Patches, count: int, images: tf.Tensor) -> None:
    """With no patch hidden it is the ordinary answer; a hidden patch has no influence; the vector in its place has."""
    hidden = np.random.default_rng(0).uniform(size=(len(images), count)) < 0.5
    hidden[:, 0] = True
    token = tf.constant(np.random.default_rng(1).normal(size=found.width), tf.float32)
    whole = subject.model(images)

    def answer(some: tf.Tensor, where: np.ndarray, vector: tf.Tensor) -> dict[str, tf.Tensor]:
        return patches.encode_masked(subject.model, some, tf.constant(where), vector)

    plain, once = answer(images, np.zeros_like(hidden), token), answer(images, hidden, token)
    other = answer(_repainted(images, hidden, found.size), hidden, token)
    for name, value in plain.items():
        if not close(whole[name], value):
            raise subject.fault(f"with no patch hidden, output '{name}' is not the ordinary one", _AFTER_PROJECTION)
        if not np.array_equal(once[name], other[name]):
            raise subject.fault(f"hidden patches have an influence on output '{name}'", _AFTER_PROJECTION)
    if close(once["tokens"], answer(images, hidden, -token)["tokens"]):
        raise subject.fault("the vector in place of hidden patches has no influence", _AFTER_PROJECTION)


_AFTER_PROJECTION = "let MaskedPatches alone hide them, right after the projection"


def _repainted(images: tf.Tensor, where: np.ndarray, size: int) -> tf.Tensor:
    """The images with other pixels in some of their patches."""
    cut = patches.patchify(images, size)
    grid = images.shape[1] // size, images.shape[2] // size
    return patches.unpatchify(tf.where(where[..., None], 1.0 - cut, cut), size, grid)


def check_strides(
    subject: BackboneSubject, small: Mapping[str, tf.Tensor], large: Mapping[str, tf.Tensor], size: int
) -> None:
    """Each map grows by a position for so many pixels of the image: outputs for images of `size` and of twice that."""
    claimed = subject.setup.spec.strides
    if not claimed:
        return
    names = [*sorted(name for name in small if name.startswith("map_")), *(["map"] if "map" in small else [])]
    grown = [large[name].shape[1] - small[name].shape[1] for name in names]
    found = tuple(size // more if more else 0 for more in grown)
    if found != claimed:
        raise subject.fault(
            f"its record has strides={claimed}, its maps have {found}", "name those of map_1, map_2, ..., map"
        )

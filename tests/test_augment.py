"""Each augmentation against a slow NumPy reference on single images, given the same parameters; then invariances."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from kzoo import augment, random
from kzoo.augment.colours import linear_colour
from kzoo.errors import DataError

MANY = random.example_keys(0, 0, tf.range(4096))


def pictures(n, height, width, channels=3, dtype=np.uint8):
    """Smooth structure plus noise, so that neither position nor colour can be confused."""
    noise = np.random.default_rng(height + width).uniform(0, 90, (n, height, width, channels))
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    waves = 80 * (1 + np.sin(y / 5 + c) * np.cos(x / 7 + np.arange(n)[:, None, None, None]))
    images = (noise + waves).astype(np.uint8)
    return images if dtype == np.uint8 else images.astype(np.float32) / 255


def keys_for(n, seed=1):
    return random.example_keys(seed, 0, tf.range(n))


# ------------------------------------------------------------------------------------------------ slow references


def reference_crop(image, box, flip, size):
    """One pixel at a time: image float in [0, 1], box (top, left, height, width), size (height, width)."""
    top, left, height, width = box
    cut = image[top : top + height, left : left + width]
    cut = cut[:, ::-1] if flip else cut
    out = np.zeros((*size, image.shape[2]))
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * height / size[0] - 0.5, 0), height - 1)
            x = min(max((j + 0.5) * width / size[1] - 0.5, 0), width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            upper = cut[y0, x0] * (1 - x + x0) + cut[y0, x1] * (x - x0)
            lower = cut[y1, x0] * (1 - x + x0) + cut[y1, x1] * (x - x0)
            out[i, j] = upper * (1 - y + y0) + lower * (y - y0)
    return out


def reference_colour(image, brightness, contrast, saturation, hue, mean=None):
    """The four steps one after the other, in float64, without a clip."""
    weights = np.array([0.299, 0.587, 0.114])
    mean = image.mean((0, 1)) if mean is None else mean
    if image.shape[2] == 1:
        return (image * brightness - mean * brightness) * contrast + mean * brightness
    image, pivot = image * brightness, brightness * mean @ weights
    image = (image - pivot) * contrast + pivot
    grey = (image @ weights)[..., None]
    image = (image - grey) * saturation + grey
    to_yiq = np.array([weights, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    turn = 2 * np.pi * hue
    rotation = [[1, 0, 0], [0, np.cos(turn), np.sin(turn)], [0, -np.sin(turn), np.cos(turn)]]
    return image @ (np.linalg.inv(to_yiq) @ rotation @ to_yiq).T


def reference_blur(image, sigma, radius):
    """Both passes, each as a loop over the kernel."""
    if sigma == 0:
        return image
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        margins = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(image, margins, mode="reflect")
        n = image.shape[axis]
        image = sum(w * padded.take(np.arange(t, t + n), axis=axis) for t, w in enumerate(kernel))
    return image


# ------------------------------------------------------------------------------------------------ crops and flips

# source height, width, channels, size: batched products, a loop, a loop that enlarges, and sides that no block divides
CROPS = [(24, 32, 3, (16, 20)), (70, 80, 3, (20, 24)), (24, 20, 1, (70, 66)), (40, 40, 1, (8, 8))]


@pytest.mark.parametrize(("height", "width", "channels", "size"), CROPS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_crop_is_the_reference(height, width, channels, size, dtype):
    images = pictures(6, height, width, channels, dtype)
    boxes = augment.draw_crops(keys_for(6), height, width)
    flip = augment.draw_flips(keys_for(6))
    assert 0 < np.sum(flip) < 6
    views = augment.crop(images, boxes, flip, size)
    scaled = pictures(6, height, width, channels, np.float32)
    expected = [reference_crop(*parts, size) for parts in zip(scaled, boxes.numpy(), flip.numpy(), strict=True)]
    assert views.dtype == tf.float32
    np.testing.assert_allclose(views, expected, atol=2e-5)


@pytest.mark.parametrize("side", [32, 80])
def test_crop_of_the_whole_at_its_size_is_the_image(side):
    images = pictures(3, side, side)
    whole = tf.constant([[0, 0, side, side]] * 3)
    same = augment.crop(images, whole, tf.constant([False, False, True]), side)
    expected = images.astype(np.float32) / 255
    expected[2] = expected[2][:, ::-1]
    np.testing.assert_allclose(same, expected, atol=1e-6)


def test_boxes_lie_inside_and_follow_area_and_ratio():
    height, width = 200, 300
    top, left, h, w = augment.draw_crops(MANY, height, width, (0.2, 0.8), (0.5, 2.0)).numpy().T
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + h).max() <= height
    assert (left + w).max() <= width
    area, ratio = h * w / (height * width), w / h
    assert 0.2 * 0.98 < area.min() < 0.22
    assert 0.75 < area.max() < 0.8 * 1.02
    assert 0.5 * 0.98 < ratio.min() < 0.55
    assert 1.8 < ratio.max() < 2.0 * 1.02
    # a position is uniform over the places the box fits in; those with room to spare only
    room = (height - h) > 50
    assert abs(((top + 0.5) / (height - h + 1))[room].mean() - 0.5) < 4 * np.sqrt(1 / 12 / room.sum())


def test_area_and_ratio_have_torchvision_s_distribution():
    # small boxes always fit at the first try: then area is uniform and the logarithm of the ratio symmetric
    _, _, h, w = augment.draw_crops(MANY, 1000, 1000, (0.1, 0.3)).numpy().T
    assert abs((h * w).mean() / 1e6 - 0.2) < 4 * 0.2 / np.sqrt(12 * 4096)
    spread = np.log(4 / 3)
    assert abs(np.log(w / h).mean()) < 4 * spread / np.sqrt(3 * 4096)
    assert abs(np.log(w / h).var() - spread**2 / 3) < 0.03 * spread**2


def test_where_no_candidate_fits_the_central_box_is_taken():
    # a strip: no box of the full area with a ratio below 4 / 3 fits, so 10 high, 13 wide, in the middle
    boxes = augment.draw_crops(MANY[:50], 10, 100, scale=(1.0, 1.0)).numpy()
    np.testing.assert_array_equal(boxes, np.tile([0, 43, 10, 13], (50, 1)))
    boxes = augment.draw_crops(MANY[:50], 100, 10, scale=(1.0, 1.0)).numpy()
    np.testing.assert_array_equal(boxes, np.tile([43, 0, 13, 10], (50, 1)))


def test_horizontal_flip_frequency_and_exactness():
    images = tf.reshape(tf.range(4096 * 2, dtype=tf.float32) / 8192, [4096, 1, 2, 1])
    flipped = augment.horizontal_flip(images, MANY, 0.25)[:, 0, :, 0].numpy()
    mirrored = flipped[:, 0] > flipped[:, 1]
    assert abs(mirrored.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4096)
    np.testing.assert_array_equal(np.sort(flipped, 1), images[:, 0, :, 0])
    np.testing.assert_array_equal(mirrored, augment.draw_flips(MANY, 0.25))


@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_pad_crop_is_a_shift_of_the_padded_image(mode):
    images = pictures(40, 9, 12, 3, np.float32)
    margins = [(0, 0), (3, 3), (3, 3), (0, 0)]
    padded = np.pad(images, margins, mode=mode)
    moved = augment.pad_crop(images, keys_for(40), 3, mode).numpy()
    found = set()
    for i in range(40):
        places = [
            (dy, dx, flip)
            for dy in range(7)
            for dx in range(7)
            for flip in (1, -1)
            if np.array_equal(padded[i, dy : dy + 9, dx : dx + 12][:, ::flip], moved[i])
        ]
        assert len(places) == 1
        found.add(places[0])
    assert {place[0] for place in found} == set(range(7))  # every shift occurs among 40
    assert {place[1] for place in found} == set(range(7))
    assert {place[2] for place in found} == {1, -1}


def test_pad_crop_refuses_an_unknown_mode():
    with pytest.raises(DataError, match="'reflect' or 'constant'"):
        augment.pad_crop(pictures(1, 8, 8), keys_for(1), mode="wrap")


def test_rotate90_is_numpy_s():
    images = pictures(8, 6, 6)
    k = np.arange(8, dtype=np.int32) - 2
    turned = augment.rotate90(tf.constant(images), tf.constant(k))
    np.testing.assert_array_equal(turned, [np.rot90(image, times) for image, times in zip(images, k, strict=True)])
    np.testing.assert_array_equal(augment.rotate90(turned, (4 - k) % 4), images)


def test_rotations4_cycle_within_an_image():
    images = pictures(3, 5, 5)
    four = augment.rotations4(tf.constant(images))
    np.testing.assert_array_equal(four, [np.rot90(image, k) for image in images for k in range(4)])


@pytest.mark.parametrize("turn", [augment.rotations4, lambda images: augment.rotate90(images, tf.zeros([2], tf.int32))])
def test_only_squares_are_turned(turn):
    with pytest.raises(DataError, match="square"):
        turn(tf.zeros([2, 4, 5, 3]))


# --------------------------------------------------------------------------------------------------------- colour


def test_jitter_of_an_image_does_not_depend_on_how_many_there_are():
    """To the last bit, on any processor: a replica works on fewer than one device."""
    images, factors = tf.constant(pictures(8, 16, 16)), augment.draw_jitter(keys_for(8), 0.8, 0.8, 0.8, 0.2, p=1.0)
    whole = augment.jitter(images, factors)
    for size in (1, 2):
        parts = [
            augment.jitter(images[i : i + size], augment.Jitter(*(f[i : i + size] for f in factors)))
            for i in range(0, 8, size)
        ]
        np.testing.assert_array_equal(tf.concat(parts, axis=0), whole)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_the_reference(channels):
    images = pictures(8, 10, 12, channels, np.float32)
    factors = augment.draw_jitter(keys_for(8), 0.8, 0.8, 0.8, 0.2, p=1.0)
    expected = [reference_colour(image, *f) for image, *f in zip(images, *(f.numpy() for f in factors), strict=True)]
    assert np.max(expected) > 1  # so that the clip is seen
    np.testing.assert_allclose(augment.jitter(images, factors), np.clip(expected, 0, 1), atol=2e-6)


def test_steps_of_colour_commute():
    """The claim that lets the order go undrawn: any two steps, done one after the other, in both orders."""
    image = pictures(1, 6, 6, 3, np.float32)[0]
    neutral = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0}
    steps = [{"brightness": 1.4}, {"contrast": 0.3}, {"saturation": 1.7}, {"hue": 0.15}]
    for one in steps:
        for other in steps:
            there = reference_colour(reference_colour(image, **(neutral | one)), **(neutral | other))
            back = reference_colour(reference_colour(image, **(neutral | other)), **(neutral | one))
            np.testing.assert_allclose(there, back, atol=1e-6)


def test_hue_runs_from_red_to_green_to_blue():
    red = tf.constant([[[[0.6, 0.3, 0.3]]]])
    for turn, largest in ((0.0, 0), (1 / 3, 1), (2 / 3, 2), (-1 / 3, 2)):
        one = tf.ones([1])
        shifted = augment.jitter(red, augment.Jitter(one, one, one, turn * one)).numpy().ravel()
        assert shifted.argmax() == largest
        assert shifted @ augment.LUMINANCE == pytest.approx(0.299 * 0.6 + 0.701 * 0.3, abs=1e-6)


def test_drawn_factors_keep_their_ranges_and_frequency():
    factors = augment.draw_jitter(MANY, 0.4, 0.2, 1.5, 0.1, p=0.7)
    chosen = factors.brightness.numpy() != 1
    assert abs(chosen.mean() - 0.7) < 4 * np.sqrt(0.21 / 4096)
    for values, low, high in zip(factors, (0.6, 0.8, 0.0, -0.1), (1.4, 1.2, 2.5, 0.1), strict=True):
        values = values.numpy()[chosen]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * len(values))
    np.testing.assert_array_equal(
        np.stack(factors)[:, ~chosen], np.array([[1.0], [1.0], [1.0], [0.0]]) * np.ones((~chosen).sum())
    )


def test_greyscale_is_the_luminance_of_the_chosen():
    images = pictures(32, 4, 4, 3, np.float32)
    chosen = augment.draw_greyscale(keys_for(32), 0.5).numpy()
    assert 0 < chosen.sum() < 32
    expected = images.copy()
    expected[chosen] = (images @ augment.LUMINANCE)[chosen][..., None]
    np.testing.assert_allclose(augment.greyscale(images, keys_for(32), 0.5), expected, atol=1e-6)
    assert abs(np.mean(augment.draw_greyscale(MANY)) - 0.2) < 4 * np.sqrt(0.16 / 4096)


def test_solarize_inverts_the_bright_values_of_the_chosen():
    images = tf.constant([0.0, 0.25, 0.5, 0.75, 1.0])[None, :, None, None] * tf.ones([4096, 1, 1, 1])
    out = augment.solarize(images, MANY, 0.3)[:, :, 0, 0].numpy()
    inverted = out[:, 4] == 0
    assert abs(inverted.mean() - 0.3) < 4 * np.sqrt(0.21 / 4096)
    np.testing.assert_array_equal(np.unique(out[inverted], axis=0), [[0, 0.25, 0.5, 0.25, 0]])
    np.testing.assert_array_equal(np.unique(out[~inverted], axis=0), [[0, 0.25, 0.5, 0.75, 1]])


def test_hsv_power_is_the_reference():
    import colorsys

    images = pictures(5, 4, 4, 3, np.float32)
    drawn = augment.draw_hsv_power(keys_for(5))
    factor, power, offset, hue = (part.numpy() for part in drawn)
    expected = np.zeros_like(images)
    for n in range(5):
        for place in np.ndindex(4, 4):
            h, *sv = colorsys.rgb_to_hsv(*images[(n, *place)].astype(float))
            sv = np.clip(factor[n] * np.array(sv) ** power[n] + offset[n], 0, 1)
            expected[(n, *place)] = colorsys.hsv_to_rgb((h + hue[n]) % 1.0, *sv)
    np.testing.assert_allclose(augment.hsv_power(images, drawn), expected, atol=2e-5)


def test_hsv_power_with_neutral_parameters_gives_the_image_back():
    images = pictures(2, 8, 8, 3, np.float32)
    neutral = augment.HSVPower(tf.ones([2, 2]), tf.ones([2, 2]), tf.zeros([2, 2]), tf.zeros([2]))
    np.testing.assert_allclose(augment.hsv_power(images, neutral), images, atol=1e-5)


def test_hsv_parameters_keep_their_ranges():
    drawn = augment.draw_hsv_power(MANY)
    for values, limit in (
        (np.log2(drawn.factor), 0.5),
        (np.log2(drawn.power), 2.0),
        (drawn.offset, 0.1),
        (drawn.hue, 0.1),
    ):
        values = np.ravel(values)
        assert np.abs(values).max() <= limit * 1.0001
        assert np.abs(values).max() > 0.99 * limit
        assert abs(values.mean()) < 4 * limit / np.sqrt(3 * values.size)


def test_grey_images_have_a_value_but_no_colour():
    grey = pictures(3, 6, 6, 1, np.float32)
    np.testing.assert_array_equal(augment.greyscale(grey, keys_for(3), 1.0), grey)
    np.testing.assert_array_equal(augment.color_jitter(grey, keys_for(3), 0.0, 0.0, 0.9, 0.5, p=1.0), grey)
    drawn = augment.draw_hsv_power(keys_for(3))
    factor, power, offset = (part.numpy()[:, 1, None, None, None] for part in drawn[:3])
    np.testing.assert_allclose(augment.hsv_power(grey, drawn), np.clip(factor * grey**power + offset, 0, 1), atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- blur


@pytest.mark.parametrize(("height", "width", "channels", "radius"), [(20, 24, 3, 2), (70, 131, 3, 6), (66, 64, 1, 3)])
def test_blur_is_the_reference(height, width, channels, radius):
    images = pictures(4, height, width, channels, np.float32)
    sigma = tf.constant([0.0, 0.1, 0.9, 2.0])
    expected = [reference_blur(image, s, radius) for image, s in zip(images, sigma.numpy(), strict=True)]
    np.testing.assert_allclose(augment.blur(images, sigma, radius), expected, atol=2e-6)


def test_blur_keeps_a_constant_and_the_variance_of_a_point():
    flat = augment.blur(tf.fill([1, 70, 70, 1], 0.4), tf.constant([1.5]), 5)
    np.testing.assert_allclose(flat, np.full([1, 70, 70, 1], 0.4), atol=1e-6)
    point = np.zeros([1, 33, 33, 1], np.float32)
    point[0, 16, 16] = 1
    spread = augment.blur(point, tf.constant([1.5]), 6)[0, :, :, 0].numpy()
    offset = np.arange(33) - 16
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(0) * offset**2).sum() == pytest.approx(1.5**2, rel=0.01)
    assert (spread.sum(1) * offset**2).sum() == pytest.approx(1.5**2, rel=0.01)


def test_kernel_is_simclr_s_and_never_longer_than_three_sigma():
    assert [augment.blur_radius(height, (0.1, 100.0)) for height in (16, 32, 96, 128, 224)] == [1, 1, 4, 6, 11]
    assert augment.blur_radius(224) == 6
    assert augment.blur_radius(224, kernel=7) == 3


def test_a_full_kernel_blurs_small_images_as_pillow_does():
    """An edge in 32 pixels at sigma 2: within two steps of 8-bit colour; cut off at a tenth of the side, 25 away."""
    edge = np.zeros((1, 32, 32, 1), "float32")
    edge[:, :, 16:] = 1.0
    pillow = Image.fromarray((edge[0, :, :, 0] * 255).astype("uint8")).filter(ImageFilter.GaussianBlur(2.0))
    away = {}
    for kernel in ("full", "share"):
        blurred = augment.blur(edge, tf.constant([2.0]), augment.blur_radius(32, kernel=kernel))
        away[kernel] = np.abs(np.array(blurred)[0, :, :, 0] * 255 - np.asarray(pillow)).max()
    assert away["full"] < 5
    assert away["share"] > 25


def test_a_view_s_blur_kernel_reaches_the_blur():
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype("uint8")
    keys, still = keys_for(64), {"scale": (1.0, 1.0), "jitter_p": 0.0, "greyscale_p": 0.0, "blur_p": 1.0}
    least = {  # of the image with the largest sigma, whose neighbours differ least
        kernel: np.var(np.diff(augment.view(images, keys, 32, blur_kernel=kernel, **still), axis=1), axis=(1, 2, 3))
        for kernel in ("share", "full")
    }
    assert least["full"].min() < 0.5 * least["share"].min()


def test_drawn_sigmas():
    sigma = augment.draw_blur(MANY, (0.5, 1.5), 0.4).numpy()
    chosen = sigma > 0
    assert abs(chosen.mean() - 0.4) < 4 * np.sqrt(0.24 / 4096)
    assert 0.5 <= sigma[chosen].min() < 0.51
    assert 1.49 < sigma.max() <= 1.5
    assert abs(sigma[chosen].mean() - 1) < 4 / np.sqrt(12 * chosen.sum())


def test_gaussian_blur_of_an_unknown_size_is_refused():
    with pytest.raises(DataError, match="known size"):
        tf.function(augment.gaussian_blur).get_concrete_function(
            tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None], tf.int64)
        )


# -------------------------------------------------------------------------------------------------------- erasing


def test_erase_fills_the_box_only():
    images = pictures(3, 8, 9, 3, np.float32)
    boxes = np.array([[0, 0, 8, 9], [2, 3, 4, 5], [1, 1, 0, 0]], np.int32)
    expected = images.copy()
    for image, (top, left, h, w) in zip(expected, boxes, strict=True):
        image[top : top + h, left : left + w] = 0.25
    np.testing.assert_array_equal(augment.erase(images, boxes, 0.25), expected)


def test_erasures_keep_their_ranges_and_frequency():
    top, left, h, w = augment.draw_erasures(MANY, 100, 120, 0.6).numpy().T
    erased = h > 0
    np.testing.assert_array_equal(erased, w > 0)
    assert abs(erased.mean() - 0.6) < 4 * np.sqrt(0.24 / 4096)
    assert ((top + h) <= 100).all()
    assert ((left + w) <= 120).all()
    share = (h * w / 12000)[erased]
    assert 0.018 < share.min() < 0.025
    assert 0.3 < share.max() < 0.34


@pytest.mark.parametrize(("grid", "ratio", "hidden"), [((14, 14), 0.75, 147), ((4, 4), 0.5, 8), ((3, 3), 0.0, 0)])
def test_patch_mask_hides_the_same_number_everywhere(grid, ratio, hidden):
    mask = augment.patch_mask(MANY, grid, ratio).numpy()
    assert mask.shape == (4096, grid[0] * grid[1])
    np.testing.assert_array_equal(mask.sum(1), hidden)
    frequency = hidden / mask.shape[1]
    assert np.abs(mask.mean(0) - frequency).max() <= 4.5 * np.sqrt(frequency * (1 - frequency) / 4096)


# ----------------------------------------------------------------------------------------------------------- view


@pytest.mark.parametrize(("source", "size"), [(40, 32), (90, 72)])
@pytest.mark.parametrize("channels", [1, 3])
def test_view_is_the_reference_chain(source, size, channels):
    n = 6
    images, keys = pictures(n, source, source, channels), keys_for(n, 4)
    options = {"scale": (0.2, 1.0), "jitter_p": 0.9, "greyscale_p": 0.4, "blur_p": 0.6, "solarize_p": 0.3}
    views = augment.view(images, keys, size, **options).numpy()

    boxes, flip = augment.draw_crops(keys, source, source, (0.2, 1.0)).numpy(), augment.draw_flips(keys).numpy()
    factors = [f.numpy() for f in augment.draw_jitter(keys, 0.8, 0.8, 0.8, 0.2, 0.9)]
    grey, sigma = augment.draw_greyscale(keys, 0.4).numpy(), augment.draw_blur(keys, p=0.6).numpy()
    neutral = augment.solarize(tf.ones([n, 1, 1, 1]), keys, 0.3).numpy().ravel() == 1
    assert 0 < grey.sum() < n
    assert 0 < (sigma > 0).sum() < n
    for i in range(n):
        image = images[i] / 255
        top, left, h, w = boxes[i]
        mean = image[top : top + h, left : left + w].mean((0, 1))
        expected = reference_crop(image, boxes[i], flip[i], (size, size))
        expected = reference_colour(expected, *(f[i] for f in factors), mean=mean)
        if grey[i] and channels == 3:
            expected = np.repeat((expected @ augment.LUMINANCE)[..., None], 3, axis=2)
        expected = np.clip(reference_blur(expected, sigma[i], augment.blur_radius(size)), 0, 1)
        expected = expected if neutral[i] else np.where(expected >= 0.5, 1 - expected, expected)
        close = np.abs(views[i] - expected) < 5e-5
        # a value that rounding puts on the other side of the threshold: |1 - v - v| is small there too
        assert (close | (np.abs(expected - 0.5) < 1e-4)).all()


def test_view_draws_as_the_single_functions_do():
    images, keys = 0.4 + 0.2 * pictures(8, 40, 40, 3, np.float32), keys_for(8)  # so muted that nothing is clipped
    chain = augment.random_resized_crop(images, keys, 32, (0.3, 1.0))
    chain = augment.color_jitter(chain, keys, 0.3, 0.0, 0.3, 0.05)  # no contrast: its pivot differs a little
    chain = augment.greyscale(chain, keys)
    chain = augment.gaussian_blur(chain, keys)
    fused = augment.view(images, keys, 32, scale=(0.3, 1.0), jitter=(0.3, 0.0, 0.3, 0.05))
    np.testing.assert_allclose(fused, chain, atol=1e-5)


# ------------------------------------------------------------------------------------------ what must not matter

FUNCTIONS = {
    "random_resized_crop": functools.partial(augment.random_resized_crop, size=24),
    "random_resized_crop_loop": functools.partial(augment.random_resized_crop, size=70),
    "horizontal_flip": augment.horizontal_flip,
    "pad_crop": augment.pad_crop,
    "color_jitter": functools.partial(augment.color_jitter, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
    "greyscale": augment.greyscale,
    "solarize": augment.solarize,
    "hsv_power_jitter": augment.hsv_power_jitter,
    "gaussian_blur": augment.gaussian_blur,
    "random_erasing": augment.random_erasing,
    "view": functools.partial(augment.view, size=24, solarize_p=0.2),
    "view_loop": functools.partial(augment.view, size=66),
}


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


def test_same_seeds_repeat_and_others_differ(function):
    images = pictures(12, 32, 32)
    once = function(images, keys_for(12)).numpy()
    np.testing.assert_array_equal(once, function(images, keys_for(12)))
    assert not np.array_equal(once, function(images, keys_for(12, seed=2)))


def test_values_are_floats_in_the_unit_interval_from_uint8_and_float(function):
    images = pictures(12, 32, 32)
    from_bytes = function(images, keys_for(12)).numpy()
    assert from_bytes.dtype == np.float32
    assert from_bytes.min() >= 0
    assert from_bytes.max() <= 1
    assert from_bytes.max() > 0.2
    from_floats = function(images.astype(np.float32) / 255, keys_for(12)).numpy()
    differs = np.abs(from_bytes - from_floats) > 1e-5
    assert differs.mean() < 1e-3  # solarize, at its threshold


def test_an_example_does_not_depend_on_its_batch(function):
    images, keys = pictures(12, 32, 32), keys_for(12)
    together = function(images, keys).numpy()
    for part in (slice(3, 4), slice(5, 12)):
        np.testing.assert_allclose(function(images[part], keys[part]), together[part], atol=1e-5)
    order = np.arange(12)[::-1].copy()
    np.testing.assert_allclose(function(images[order], tf.gather(keys, order)), together[order], atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_what_is_drawn_is_the_same_to_the_bit_in_batches_of_any_size(count):
    def drawn(keys):
        colour = linear_colour(augment.draw_jitter(keys, 0.8, 0.8, 0.8, 0.2), 3)
        boxes = augment.draw_crops(keys, 2000, 3000), augment.draw_erasures(keys, 2000, 3000)
        return *colour, *boxes, *augment.draw_hsv_power(keys), augment.draw_blur(keys)

    keys = keys_for(24)
    parts = [drawn(keys[start : start + count]) for start in range(0, 24, count)]
    for together, *apart in zip(drawn(keys), *parts, strict=True):
        np.testing.assert_array_equal(together, np.concatenate(apart))


def test_unknown_batch_in_tf_data_and_a_remainder(function):
    images, keys = pictures(12, 32, 32), keys_for(12)
    data = tf.data.Dataset.from_tensor_slices((images, keys)).batch(5).map(function)
    np.testing.assert_allclose(np.concatenate(list(data)), function(images, keys), atol=1e-5)
    assert data.element_spec.shape[0] is None
    assert data.element_spec.shape[1:].is_fully_defined()


def test_grey_images_are_taken(function):
    out = function(pictures(12, 32, 32, 1), keys_for(12))
    assert out.shape[3] == 1
    assert len(np.unique(out)) > 100


IDENTITIES = {
    "horizontal_flip": functools.partial(augment.horizontal_flip, p=0.0),
    "pad_crop": functools.partial(augment.pad_crop, padding=0, flip=0.0),
    "color_jitter": functools.partial(
        augment.color_jitter, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=0.0
    ),
    "greyscale": functools.partial(augment.greyscale, p=0.0),
    "solarize": functools.partial(augment.solarize, p=0.0),
    "gaussian_blur": functools.partial(augment.gaussian_blur, p=0.0),
    "random_erasing": functools.partial(augment.random_erasing, p=0.0),
}


@pytest.mark.parametrize("name", IDENTITIES)
@pytest.mark.parametrize("side", [20, 68])
def test_with_probability_0_nothing_changes(name, side):
    images = pictures(5, side, side, 3, np.float32)
    np.testing.assert_array_equal(IDENTITIES[name](images, keys_for(5)), images)


def test_an_empty_batch_stays_empty():
    nothing, no_seeds = pictures(0, 32, 32), tf.zeros([0], tf.int64)
    assert augment.view(nothing, no_seeds, 24).shape == (0, 24, 24, 3)
    assert augment.view(nothing, no_seeds, 80).shape == (0, 80, 80, 3)


@pytest.mark.parametrize("shape", [(2, 8, 8, 2), (8, 8, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="1 or 3 channels"):
        augment.view(tf.zeros(shape), keys_for(2), 8)


def test_images_of_unknown_size_can_be_cropped():
    images, keys = pictures(4, 40, 50), keys_for(4)
    spec = [tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None], tf.int64)]
    dynamic = tf.function(functools.partial(augment.view, size=32), input_signature=spec)
    np.testing.assert_allclose(dynamic(images, keys), augment.view(images, keys, 32), atol=1e-5)

"""The figures: that they show what they say, that nothing overlaps, and that a file is whole or not there."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.patches import Rectangle
from PIL import Image

from kzoo.evaluate import figures
from kzoo.evaluate.figures import images, maps, similar, style
from kzoo.system import fonts

RNG = np.random.default_rng(0)
LONG = [f"a class with a very long name, number {n}" for n in range(60)]


def drawn(function, path, *args, **kwargs):
    """The figure itself, before it became a file."""
    with matplotlib.rc_context(style.STYLE):
        return function.__wrapped__(path, *args, **kwargs)


def texts(figure):
    found = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text().strip()]
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    if renderer is None:
        FigureCanvasAgg(figure).draw()
        renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found]


def overlapping(figure):
    """Pairs of texts that overlap, and texts that leave the figure."""
    found = texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    faults = [a for a, box in found if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]
    return faults + [(a, b) for i, (a, one) in enumerate(found) for b, two in found[:i] if one.padded(-1).overlaps(two)]


def photos(n, size=24, channels=3):
    return RNG.integers(0, 256, (n, size, size, channels), np.uint8)


CASES = {
    "views": (figures.views, (photos(4), {"view_0": RNG.random((4, 16, 16, 3))})),
    "one narrow view": (figures.views, (photos(2, channels=1), {"x": RNG.random((2, 8, 8, 1))})),
    "odd views": (
        figures.views,
        (photos(3), {f"a_name_that_goes_on_and_on_{n}": RNG.normal(size=(3, 9, 8, 8, 2)) for n in range(3)}),
    ),
    "answers": (
        figures.answers,
        ({"given": photos(3), "answer": RNG.random((3, 8, 8, 1)), "guess": ["a cat", "90°\nsure", "nothing of note"]},),
    ),
    "captions only": (figures.answers, ({"text": ["one [MASK] three " * 4] * 2, "answer": ["two", "two"]},)),
    "loss": (figures.loss_curve, ([{"epoch": n, "loss": 1 / (n + 1)} for n in range(5)],)),
    "long loss": (figures.loss_curve, ([{"step": n, "loss": 1e5 / (n + 1)} for n in range(300)],)),
    "tiny loss": (figures.loss_curve, ([{"step": n, "loss": -3e-7 / (n + 1)} for n in range(40)],)),
    "no loss": (figures.loss_curve, ([],)),
    "tiny map": (figures.embedding_map, ({"trained": RNG.normal(size=(5, 3))},)),
    "map": (
        figures.embedding_map,
        ({"trained": RNG.normal(size=(200, 8)), "untrained": RNG.normal(size=(200, 3))}, np.arange(200) % 42 - 1, LONG),
    ),
    "neighbours": (
        figures.neighbours,
        (photos(30), RNG.normal(size=(30, 4)), np.arange(30), np.arange(30) % 12 - 1, LONG),
    ),
    "few neighbours": (figures.neighbours, (photos(2), RNG.normal(size=(2, 4)), np.arange(2))),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_text_overlaps_or_leaves_the_figure(case, tmp_path):
    function, arguments = CASES[case]
    assert overlapping(drawn(function, tmp_path / "x.png", *arguments)) == []


def test_the_overlap_check_notices_an_overlap():
    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "two")
    figure.text(0.99, 0.1, "beyond the edge")
    assert overlapping(figure) == ["beyond the edge", ("two", "one")]


@pytest.mark.parametrize("case", ["views", "loss", "tiny map", "few neighbours"])
def test_a_figure_is_a_png_at_its_size(case, tmp_path):
    function, arguments = CASES[case]
    path = tmp_path / "figures" / "x.png"
    assert function(path, *arguments) is None
    inches = drawn(function, path, *arguments).get_size_inches()
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_allclose(image.size, inches * 130, atol=1)
    assert [file.name for file in path.parent.iterdir()] == ["x.png"]


def test_a_failed_drawing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(b"the old picture")

    def full_disk(self, file, **_):
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(OSError, match="no space"):
        figures.loss_curve(path, [])
    assert path.read_bytes() == b"the old picture"
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_a_user_s_own_style_of_matplotlib_changes_no_picture(tmp_path):
    """LaTeX, which is not installed everywhere, would end the drawing; black would change it."""
    rows = [{"epoch": str(epoch), "loss": "1.5"} for epoch in range(3)]
    figures.loss_curve(tmp_path / "plain.png", rows)
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "black", "savefig.bbox": "tight"}):
        figures.loss_curve(tmp_path / "styled.png", rows)
        assert matplotlib.rcParams["text.usetex"]
    assert (tmp_path / "styled.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_drawing_leaves_the_program_s_own_plots_alone(tmp_path):
    code = (
        "import sys, matplotlib; from kzoo.evaluate import figures; "
        f"figures.loss_curve({str(tmp_path / 'x.png')!r}, []); "
        "print('matplotlib.pyplot' in sys.modules, matplotlib.rcParams['savefig.dpi'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    assert matplotlib.rcParamsDefault["savefig.dpi"] == "figure"  # and not kzoo's 130
    assert done.stdout == "False figure\n"


# ---- views -----------------------------------------------------------------------------------------------------------


def test_views_are_a_row_for_each_example_and_the_raw_image_first(tmp_path):
    raw, view = photos(4), RNG.random((4, 16, 16, 3)).astype(np.float32)
    figure = drawn(figures.views, tmp_path / "x.png", raw, {"view_0": view}, examples=3)
    pictures = [artist.get_array() for artist in figure.artists]
    assert len(pictures) == 6
    for row in range(3):
        np.testing.assert_allclose(pictures[row], raw[row] / 255, atol=1e-6)
        np.testing.assert_allclose(pictures[3 + row], view[row], atol=1e-6)
    assert [text.get_text() for text in figure.texts[-2:]] == ["original", "first view"]


def test_what_cannot_be_shown_as_it_is_says_what_was_done():
    pictures, remarks = images.displayable(np.array([-1.0, 0.0, 3.0]).reshape(3, 1, 1, 1))
    np.testing.assert_allclose(np.ravel(pictures), [0, 0.25, 1])
    assert remarks == ["stretched"]
    pictures, remarks = images.displayable(np.array([[0.2, 0.6]]).reshape(1, 1, 1, 2))
    np.testing.assert_allclose(np.ravel(pictures), [0.4], atol=1e-6)
    assert remarks == ["mean of 2 channels"]
    pictures, remarks = images.displayable(np.full((1, 1, 1, 3), 51, np.uint8))
    np.testing.assert_allclose(pictures[0], [[[0.2] * 3]])
    assert remarks == []


def test_patches_become_a_mosaic_in_reading_order():
    patches = np.stack([np.full((2, 2, 1), n / 10) for n in range(5)])
    white = [1.0] * 8
    wide = [[0, 0, 1, 0.1, 0.1, 1, 0.2, 0.2]] * 2 + [white] + [[0.3, 0.3, 1, 0.4, 0.4, 1, 1, 1]] * 2
    np.testing.assert_allclose(images.mosaic(patches)[..., 0], wide, atol=1e-6)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_the_loss_is_read_from_text_and_gaps_are_left_out(tmp_path):
    rows = [{"epoch": "1", "loss": "3.0"}, {"epoch": "2", "loss": ""}, {"epoch": "3", "loss": "1.0"}, {"epoch": "4"}]
    axes = drawn(figures.loss_curve, tmp_path / "x.png", rows).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 3], [3, 1]])
    assert axes.get_xlabel() == "epoch"


def test_many_points_get_a_centred_mean(tmp_path):
    rows = [{"step": n, "loss": 5.0 - n / 100} for n in range(250)]
    raw, mean = drawn(figures.loss_curve, tmp_path / "x.png", rows).axes[0].lines
    assert len(raw.get_xdata()) == 250
    x, y = mean.get_xydata().T
    np.testing.assert_allclose(y, 5 - x / 100)  # the centred mean of a line lies on it; a trailing one lags behind


# ---- the map ---------------------------------------------------------------------------------------------------------


def test_few_points_are_put_at_their_principal_components():
    # On the unit circle, three points symmetric about the first axis: the second component is +-sin, the first shared.
    angles = np.array([-0.5, 0.0, 0.5])
    points, _ = maps._two_dimensions(np.stack([np.cos(angles), np.sin(angles)], 1) * [[1], [4], [9]], seed=0)
    np.testing.assert_allclose(np.abs(points[:, 0]), [np.sin(0.5), 0, np.sin(0.5)], atol=1e-9)


def test_separate_clusters_stay_separate():
    labels = np.repeat([0, 1], 40)
    points, _ = maps._two_dimensions(np.eye(2)[labels] * 9 + RNG.normal(size=(80, 2)) * 0.1, seed=0)
    centres = np.stack([points[labels == c].mean(0) for c in (0, 1)])
    nearer = np.linalg.norm(points[:, None] - centres, axis=-1).argmin(1)
    np.testing.assert_array_equal(nearer, labels)


def test_both_panels_show_the_same_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "MAP_POINTS", 20)
    labels = np.repeat([0, 1], [90, 10])
    values = np.stack([labels, np.arange(100)], 1).astype(float)
    figure = drawn(figures.embedding_map, tmp_path / "x.png", {"a": values, "b": values}, labels, ["many", "few"])
    one, two = ([len(cloud.get_offsets()) for cloud in axes.collections] for axes in figure.axes)
    assert one == two
    assert sum(one) == 20
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["many", "few"]
    assert "20 examples" in " ".join(text.get_text() for text in figure.texts)


def test_only_as_many_classes_as_can_be_told_apart_get_a_colour():
    labels = np.concatenate([np.repeat(np.arange(30), 3), [29, -1]])  # class 29 is the most frequent
    groups = maps._groups(labels, [f"c{n}" for n in range(30)])
    names = [name for name, *_ in groups]
    assert names == [*(f"c{n}" for n in range(23)), "c29", "6 more classes", "unlabelled"]
    looks = {(colour, marker) for _, colour, marker, _ in groups}
    assert len(looks) == len(groups)
    np.testing.assert_array_equal(sum(mask.astype(int) for *_, mask in groups), 1)  # every point is drawn once


# ---- neighbours ------------------------------------------------------------------------------------------------------


def test_neighbours_are_the_most_similar_without_the_query():
    angles = np.array([0.0, 0.1, 0.3, 2.0, 0.0])
    unit = np.stack([np.cos(angles), np.sin(angles)], 1)
    ids = np.array([7, 8, 9, 10, 7])  # the last is the first again
    assert similar._nearest(unit, ids, 0, 3).tolist() == [1, 2, 3]
    assert similar._nearest(unit, ids, 1, 2).tolist() == [0, 4]


def test_frames_marks_and_the_count_agree_with_the_labels(tmp_path):
    # Two tight pairs: 0 and 1 share a class, 2 and 3 do not, 4 is unlabelled and far from all.
    features = np.array([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0.1], [-1, -1, -1]], float)
    labels = np.array([0, 0, 1, 0, -1])
    figure = drawn(
        figures.neighbours,
        tmp_path / "x.png",
        photos(5),
        features,
        np.arange(5),
        labels,
        ["cat", "dog"],
        queries=5,
        nearest=1,
    )
    marks = [text.get_text() for text in figure.texts if text.get_text()[0] in "✓✗"]
    assert sorted(marks) == ["✓ cat", "✓ cat", "✗ cat", "✗ dog"]
    frames = [artist for artist in figure.artists if isinstance(artist, Rectangle)]
    for mark, frame in zip(marks, frames, strict=True):
        wanted = matplotlib.colors.to_rgb(style.SAME if mark[0] == "✓" else style.OTHER)
        assert frame.get_edgecolor()[:3] == wanted
    assert "2 of 4 neighbours are of the query's class" in [text.get_text() for text in figure.texts]


def test_queries_come_from_as_many_classes_as_there_are():
    labels = np.repeat([0, 1, 2, 3], [100, 3, 2, 1])
    chosen = similar._spread_over_classes(labels, 6, np.random.default_rng(0))
    counts = np.bincount(labels[chosen])  # one of each, then a second from two of the three that have one
    assert len(set(chosen)) == counts.sum() == 6
    assert counts.min() == 1
    assert counts.max() == 2


COLLAPSED = """
import sys, numpy as np
from kzoo.evaluate import figures
from kzoo.evaluate.figures import maps
same = np.zeros((400, 16), "float32")
half = np.repeat(np.random.default_rng(0).normal(size=(200, 16)), 2, axis=0)
few = np.repeat(np.eye(16, dtype="float32")[:5], 80, axis=0)
print([maps._two_dimensions(values, 0)[1] for values in (same, same + 1, half, few)])
figures.embedding_map(sys.argv[1], {"trained": same, "untrained": half})
"""


def test_an_embedding_that_collapsed_is_drawn_and_ends_no_process(tmp_path):
    """Of equal points t-SNE ends the process with a segmentation fault, hence a process of its own here."""
    call = [sys.executable, "-c", COLLAPSED, str(tmp_path / "map.png")]
    ended = subprocess.run(call, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    one = "only 1 different point"
    assert ended.stdout.strip() == str([one, one, "t-SNE", "only 5 different points"])
    assert (tmp_path / "map.png").exists()


def test_equal_features_have_one_place():
    points, way = maps._two_dimensions(np.repeat(RNG.normal(size=(50, 8)), 2, axis=0), 0)
    assert way == "t-SNE"
    np.testing.assert_array_equal(points[::2], points[1::2])
    assert len(np.unique(points, axis=0)) == 50


def test_letters_that_no_font_has_are_replaced_by_the_number_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_others", list)  # a machine without fonts of its own
    names = ["cat", "\u732b", "dog"]
    features = {"trained": RNG.normal(size=(12, 4))}
    with pytest.warns(UserWarning, match="no installed font has the letters \u732b: .* install a font"):
        figure = drawn(figures.embedding_map, tmp_path / "map.png", features, np.arange(12) % 3, names)
    assert {"cat", "class 1", "dog"} <= {text for text, _ in texts(figure)}


def test_letters_that_another_font_has_are_drawn_with_it():
    letter = next(iter(sorted(fonts._covered("STIXGeneral") - fonts._covered(fonts.HOUSE))))
    assert fonts.families(["abc"]) == [fonts.HOUSE]
    other = fonts.families([f"a{letter}"])[1]
    assert letter in fonts._covered(other)
    assert "Last Resort" not in other
    assert fonts.unwritable([f"a{letter}"]) == set()


def test_several_pictures_of_an_example_have_columns_and_many_one_mosaic():
    parts = tf.reshape(tf.range(2.0 * 4 * 9), [18, 2, 2, 1])  # nine of each of two examples
    shown = figures.pictures_of({"tiles": parts, "view": parts[:4], "label": tf.range(2)}, 2)
    assert {name: value.shape for name, value in shown.items()} == {
        "tiles": (2, 9, 2, 2, 1),
        "view 0": (2, 2, 2, 1),
        "view 1": (2, 2, 2, 1),
    }
    np.testing.assert_array_equal(shown["tiles"][1, 0], parts[9])
    np.testing.assert_array_equal(shown["view 1"], parts[1:4:2])


def test_columns_are_named_in_plain_words():
    words = {
        "view_0": "first view",
        "tiles_1": "second tile",
        "class_1": "second class",
        "patches_2": "third patch",
        "view 1 chosen": "second view chosen",
        "image_11": "image 12",
        "seed_patch": "seed patch",
        "map": "map",
    }
    assert {name: style.worded(name) for name in words} == words


def test_an_example_without_a_class_has_the_name_of_its_file_and_a_neighbour_its_similarity(tmp_path):
    features, ids = np.array([[1, 0], [-1, 0]]), np.array([3, 1])
    names = ["", "cats/a-long-name-001.jpg", "", "dog.jpg"]
    for given, told in ((names, ["dog.jpg", "…-name-001.jpg\n-1.00"]), ((), ["id 3", "id 1\n-1.00"])):
        figure = drawn(
            figures.neighbours, tmp_path / "x.png", photos(2), features, ids, names=given, queries=2, nearest=1
        )
        texts = [text.get_text() for text in figure.texts]
        assert [text for text in texts if text in told] == told
        assert overlapping(figure) == []


def test_a_map_of_unlabelled_examples_shows_some_of_them_where_they_lie(tmp_path):
    values, shown = RNG.normal(size=(60, 8)), photos(60)
    pictures = {}
    for labels in (None, np.arange(60) % 2):
        figure = drawn(figures.embedding_map, tmp_path / "x.png", {"a": values}, labels, thumbnails=shown)
        pictures[labels is None] = [box for box in figure.axes[0].artists if isinstance(box, AnnotationBbox)]
    points = figure.axes[0].collections[0].get_offsets()
    assert 10 < len(pictures[True]) <= 60
    assert pictures[False] == []
    squares = {tuple(np.floor(np.array(box.xy)).astype(int)) for box in pictures[True]}
    assert len(points) > 0
    assert len(squares) > 1

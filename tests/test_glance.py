"""What a dry run says of a folder of images: from names and headers, before anything is decoded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo.cli.app import main
from kzoo.errors import DataError
from kzoo.folder import glance as module
from kzoo.folder.census import image_census
from kzoo.folder.glance import glance
from kzoo.folder.images import header_size, look, read_image
from kzoo.options import FolderOptions

RECIPE = """\
name: tiny
data: {name: "folder:pics"}
backbone: {name: convnet4}
method: {name: rotation, options: {padding: 0}}
optimizer: {name: adam, learning_rate: 1.0e-3}
train: {batch_size: 4}
"""


@pytest.fixture
def pics(tmp_path, monkeypatch) -> Path:
    """Twenty images of 32 x 32 in two classes; the process is where the recipe is."""
    for label in "ab":
        (tmp_path / "pics" / label).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "pics" / label / f"{number}.png")
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pics"


@pytest.fixture
def dry(capsys):
    """dry(*overrides): the exit code of a dry run, and all that was said, in one line."""

    def run(*overrides):
        with pytest.raises(SystemExit) as left:
            main(["train", "r.yaml", "--dry-run", *(word for value in overrides for word in ("--set", value))])
        return left.value.code, " ".join("".join(capsys.readouterr()).split())

    return run


def test_sizes_that_differ_are_refused_unless_they_are_brought_to_one(pics, dry):
    code, said = dry()
    assert code == 0
    assert "headers: 20 of 20 files were read, no pixel was" in said
    Image.new("RGB", (48, 32)).save(pics / "b" / "wide.png")
    code, said = dry()
    assert (code, said) == (1, said)
    assert "pics: images of 2 sizes, from 32x32 to 48x32; set data.options.size" in said
    assert dry("data.options.size=32")[0] == 0


def test_a_turned_photograph_has_another_size(pics, dry):
    for path in pics.rglob("*.png"):
        Image.new("RGB", (32, 24)).save(path)
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (32, 24)).save(pics / "a" / "turned.jpg", exif=exif)
    assert header_size(pics / "a" / "turned.jpg") == (24, 32)
    assert "from 24x32 to 32x24" in dry()[1]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((10, 10), "images of 10 x 10 pixels are too small for 'convnet4', which takes 16 and up; set data.options"),
        ((32, 24), "images of 24 x 32 pixels; set method.options.size for square views"),
    ],
)
def test_what_the_model_cannot_take_is_refused(pics, dry, size, words):
    for path in pics.rglob("*.png"):
        Image.new("RGB", size).save(path)
    code, said = dry()
    assert code == 1
    assert words in said


def test_broken_files_are_refused_unless_they_may_be_left_out(pics, dry):
    (pics / "a" / "empty.png").touch()
    (pics / "b" / "gone.png").symlink_to("nowhere")
    code, said = dry()
    assert code == 1
    assert "cannot read 2 broken files: a/empty.png (an empty file), b/gone.png (a link to nothing); repair" in said
    code, said = dry("data.options.skip_broken=true")
    assert code == 0
    assert "broken, 2: a/empty.png (an empty file), b/gone.png (a link to nothing)" in said


def test_the_folder_to_test_on_is_looked_at_too(pics, dry):
    code, said = dry("evaluate.data={name: 'folder:elsewhere'}")
    assert code == 1
    assert "elsewhere: no such folder" in said


def test_tensorflow_is_not_imported(pics):
    script = (
        "import sys\nfrom kzoo.cli import app as cli\n"
        "try: cli.main(['train', 'r.yaml', '--dry-run'])\n"
        "except SystemExit as stop: print(stop.code or 0, *{'tensorflow', 'keras'} & set(sys.modules), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=pics.parent, capture_output=True, text=True, check=True)
    assert answer.stderr == "0\n"


def test_what_was_not_looked_at_is_said(pics, monkeypatch):
    """Every fifth of twenty, so that of both classes some are seen; and a format whose header does not tell."""
    Image.new("RGB", (32, 32)).save(pics / "a" / "9.tif")
    (pics / "a" / "9.png").unlink()
    seen = []
    monkeypatch.setattr(module, "_LOOKED_AT", 4)
    monkeypatch.setattr(module, "header_size", lambda path: seen.append(path.parent.name) or header_size(path))
    census = image_census(str(pics), FolderOptions(layout="flat", test_fraction=0.001))
    assert glance(census, FolderOptions())[1:] == (
        (32, 32),
        "headers: 4 of 20 files were read, no pixel was; the other 16 were not looked at",
    )
    assert seen == ["a", "a", "b", "b"]
    monkeypatch.setattr(module, "_LOOKED_AT", 2000)
    assert glance(census, FolderOptions())[2] == (
        "headers: 19 of 20 files were read, no pixel was; 1 are of formats whose headers do not tell the size"
    )


def test_a_png_that_says_behind_its_pixels_how_it_is_turned(tmp_path):
    """By EXIF or as text; the same before them."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (48, 64)).save(tmp_path / "early.png", exif=exif)
    early = (tmp_path / "early.png").read_bytes()
    begin, end = early.index(b"eXIf") - 4, early.index(b"IDAT") - 4
    late = early[:begin] + early[end:-12] + early[begin:end] + early[-12:]
    (tmp_path / "late.png").write_bytes(late)
    for name in ("early.png", "late.png"):
        path = tmp_path / name
        assert header_size(path) == look(path).size == read_image(path).shape[1::-1] == (64, 48)


def test_only_headers_are_read(tmp_path):
    """A file whose pixels are cut off has a size; reading it would fail."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:100])
    assert header_size(tmp_path / "a.png") == (48, 64) == look(tmp_path / "a.png").size
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"a.png \(no image that Pillow knows\)"):
        glance(image_census(str(tmp_path), FolderOptions()), FolderOptions())

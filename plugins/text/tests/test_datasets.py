"""Passages: where they come from, what is in them, and what cannot be read."""

import os
import subprocess
import sys

import numpy as np
import pytest
from kzoo_text import corpus, python_docs
from kzoo_text.options import SENTINELS
from kzoo_text.tokenizer import RESERVED, pieces, train_tokenizer
from tokenizers import Tokenizer

import kzoo
from kzoo import text
from kzoo.data import cache_dir
from kzoo.errors import DataError
from kzoo.text import CLS, SEP

SENTENCES = "the cat sat on the mat. the dog sat on the cat! ten dogs and one catfish sat down; nobody sat on them.\n"


def rows(source):
    batch = source.decode(next(iter(source.examples().batch(source.size))))
    return {key: value.numpy() for key, value in batch.items()}


@pytest.fixture(scope="module")
def docs():
    return {split: kzoo.open_dataset("python_docs", split) for split in ("train", "test")}


# ---- the tokenizer ---------------------------------------------------------------------------------------------------


def test_a_vocabulary_begins_with_special_tokens_sentinels_and_characters():
    tokenizer = train_tokenizer([SENTENCES], 300)
    vocabulary = pieces(tokenizer)
    alphabet = sorted(set(SENTENCES) - {" ", "\n"})
    assert vocabulary[:5] == text.SPECIAL
    assert vocabulary[: len(RESERVED)] == (*text.SPECIAL, *SENTINELS)
    begins = len(RESERVED)
    assert list(vocabulary[begins : begins + 2 * len(alphabet)]) == alphabet + [f"##{letter}" for letter in alphabet]
    assert {"the", "cat", "sat"} <= set(vocabulary)
    assert len(set(vocabulary)) == len(vocabulary) <= 300
    encoded = tokenizer.encode("The CATS sat: [MASK]")
    assert encoded.tokens[:4] == ["the", "cat", "##s", "sat"]
    assert not set(encoded.ids) & {0, 2, 3, 4}  # words that look like special tokens are none


def test_the_same_text_gives_the_same_vocabulary_in_any_process_and_order():
    code = (
        "from pydoc_data.topics import topics; from kzoo_text.tokenizer import pieces, train_tokenizer; "
        "print(*pieces(train_tokenizer({}(topics.values()), 2000)), sep='\\n')"
    )
    found = [
        subprocess.run([sys.executable, "-c", code.format(order)], capture_output=True, text=True, check=True).stdout
        for order in ("list", "sorted", "list")
    ]
    assert len(found[0].split("\n")) > 1500
    assert found[0] == found[1] == found[2]


def test_rare_characters_give_way_where_the_vocabulary_is_small():
    many = "".join(chr(0x4E00 + n) for n in range(400))
    tokenizer = train_tokenizer([SENTENCES * 20, many], 256)
    assert len(pieces(tokenizer)) <= 256
    assert tokenizer.encode("cat").tokens == ["cat"]
    assert tokenizer.encode(many[-1]).tokens == ["[UNK]"]


# ---- passages --------------------------------------------------------------------------------------------------------


def test_passages_are_cut_between_words_and_a_short_rest_is_left_out():
    numbers, words = [10, 11, 12, 13, 14, 15, 16, 17, 18], [0, 1, 2, 3, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(
        corpus.passages(numbers, words, 6),
        [[CLS, 10, 11, 12, SEP, 0], [CLS, 13, 14, 15, 16, SEP], [CLS, 17, 18, SEP, 0, 0]],
    )
    np.testing.assert_array_equal(corpus.passages([9, 8, 7], [0, 0, 0], 4), [[CLS, 9, 8, SEP], [CLS, 7, SEP, 0]])
    assert corpus.passages(numbers[:2], words, 14).shape == (0, 14)  # 2 of 12: less than a quarter
    assert corpus.passages(numbers[:3], words, 14).shape == (1, 14)


def test_a_text_is_cut_at_a_space():
    assert corpus.beginning_and_end("one two three", 0.5) == ("one two", " three")
    assert corpus.beginning_and_end("onetwothree", 0.5) == ("onetwo", "three")
    assert corpus.beginning_and_end("", 0.5) == ("", "")


def test_next_and_other_are_of_the_same_and_of_another_document():
    owner = np.array([0, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(corpus._following(owner), [1, 2, -1, 4, -1, -1])
    other = corpus._of_another(np.repeat(np.arange(3), 500))
    assert np.all(np.repeat(np.arange(3), 500)[other] != np.repeat(np.arange(3), 500))
    counts = np.bincount(other[:500], minlength=1500)  # for the first document: of the other two alike
    assert counts[500:1000].sum() == pytest.approx(250, abs=60)
    assert sorted(corpus._of_another(np.zeros(4, int))) == [0, 1, 2, 3]  # there is no other
    assert len(corpus._of_another(np.zeros(0, int))) == 0


# ---- python_docs -----------------------------------------------------------------------------------------------------


def test_python_docs(docs):
    train, test = docs["train"], docs["test"]
    assert (train.modality, train.length, len(train.classes)) == ("text", 64, 12)
    assert train.vocabulary == test.vocabulary
    assert train.size > 500
    assert 0.15 < test.size / (train.size + test.size) < 0.3
    for source in (train, test):
        data = rows(source)
        assert set(np.unique(data["label"])) == set(range(-1, 12))
        assert np.all(data["tokens"][:, 0] == CLS)
        assert np.all((data["tokens"] == SEP).sum(axis=1) == 1)
        assert np.mean(data["tokens"] == 1) < 0.001  # [UNK]
        follows = data["next"].any(axis=1)
        np.testing.assert_array_equal(data["next"][:-1][follows[:-1]], data["tokens"][1:][follows[:-1]])
        assert not follows[-1]
        np.testing.assert_array_equal(data["vocabulary_size"], len(source.vocabulary))
        assert source.vocabulary[data["first_word"][0] - 1] == "<extra_id_31>"
        np.testing.assert_array_equal(data["first_word"], data["first_word"][0])
    assert "statements" in text.words(rows(train)["tokens"][0], train.vocabulary)


def test_no_passage_to_test_on_was_trained_on(docs):
    """Topics quote each other: without leaving quotations out, a tenth of the passages of ten words would be known."""
    runs = {split: set() for split in docs}
    for split, source in docs.items():
        for row in rows(source)["tokens"]:
            content = row[row > 4]
            runs[split] |= {tuple(content[start : start + 20]) for start in range(len(content) - 19)}
    assert len(runs["test"] & runs["train"]) / len(runs["test"]) < 0.01


def test_markup_goes_and_code_stays():
    shown = python_docs.plain(
        "Title\n*****\n\n| a | b |\n+---+---+\n\nThis is *so* and **very** so.\n\n   f(*args, **kw)\n"
    )
    assert shown.split("\n\n") == ["Title", " a   b ", "This is so and very so.", "   f(*args, **kw)"]


# ---- text:<path> -----------------------------------------------------------------------------------------------------


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(content, "utf-8")
    return folder


def test_a_file_is_split_by_place(tmp_path):
    numbers = " ".join(f"n{number}" for number in range(1000))
    path = write(tmp_path, book=numbers) / "book.txt"
    train = kzoo.open_dataset(f"text:{path}", length=16, vocabulary=300)
    test = kzoo.open_dataset(f"text:{path}", "test", length=16, vocabulary=300)
    assert train.vocabulary == test.vocabulary
    assert train.classes == ()
    first, rest = ([text.words(row, s.vocabulary) for row in rows(s)["tokens"]] for s in (train, test))
    assert first[0].startswith("[CLS] n0 n1 ")
    assert " n99" in rest[-1]
    assert rest[0].split()[1] in {f"n{number}" for number in range(795, 806)}  # the last fifth
    half = kzoo.open_dataset(f"text:{path}", "test", length=16, vocabulary=300, test_fraction=0.5)
    assert half.size == pytest.approx(2.5 * test.size, rel=0.05)


def test_folders_are_classes_and_splits(tmp_path):
    write(tmp_path / "a", cats__x=SENTENCES * 3, dogs__y=SENTENCES * 3, notes=SENTENCES * 3)
    source = kzoo.open_dataset(f"text:{tmp_path / 'a'}", length=16, vocabulary=256)
    assert source.classes == ("cats", "dogs")
    assert set(rows(source)["label"]) == {-1, 0, 1}
    write(tmp_path / "b", train__cats__x=SENTENCES * 3, train__dogs__y=SENTENCES * 3, test__dogs__z="a dog sat " * 9)
    held_out = kzoo.open_dataset(f"text:{tmp_path / 'b'}", "test", length=16, vocabulary=256)
    assert set(rows(held_out)["label"]) == {1}
    assert "dog sat" in text.words(rows(held_out)["tokens"][0], held_out.vocabulary)
    with pytest.raises(DataError, match=r"^text:.*/b: no split 'val'; it has test, train$"):
        kzoo.open_dataset(f"text:{tmp_path / 'b'}", "val")
    (tmp_path / "b" / "train").rename(tmp_path / "b" / "Training")
    (tmp_path / "b" / "notes.md").write_text("not read")
    again = kzoo.open_dataset(f"text:{tmp_path / 'b'}", "test", length=16, vocabulary=256)
    assert again.classes == ("cats", "dogs")  # and not Training and test
    assert (again.census["left_out"], again.census["used"]) == ({".md": 1}, 3)


def test_folders_of_text_are_read_as_those_of_images_are(tmp_path):
    write(tmp_path, train__x=SENTENCES * 3, dogs__y=SENTENCES * 3)
    with pytest.raises(DataError, match="can be read in two ways"):
        kzoo.open_dataset(f"text:{tmp_path}", length=16, vocabulary=256)
    chosen = kzoo.open_dataset(f"text:{tmp_path}", length=16, vocabulary=256, layout="classes")
    assert chosen.classes == ("dogs", "train")
    (tmp_path / "dogs" / "gone.txt").symlink_to("/nowhere")
    with pytest.raises(DataError, match=r"cannot read dogs/gone\.txt \(a link to nothing\)"):
        kzoo.open_dataset(f"text:{tmp_path}", length=16, vocabulary=256, layout="classes")


def test_it_is_prepared_once_and_anew_where_the_text_or_the_options_change(tmp_path, monkeypatch):
    path = write(tmp_path, book=SENTENCES * 20) / "book.txt"
    first = rows(kzoo.open_dataset(f"text:{path}", length=16, vocabulary=256))
    kept = Tokenizer.from_file(str(max(cache_dir().glob("text/*"), key=os.path.getmtime) / "tokenizer.json"))
    assert kept.encode("the cat").tokens == ["the", "cat"]

    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(corpus, "train_tokenizer", never)
    np.testing.assert_array_equal(
        rows(kzoo.open_dataset(f"text:{path}", length=16, vocabulary=256))["tokens"], first["tokens"]
    )
    for change in ({"vocabulary": 260}, {"length": 17}):
        with pytest.raises(AssertionError, match="trained again"):
            kzoo.open_dataset(f"text:{path}", **{"length": 16, "vocabulary": 256, **change})
    path.write_text(SENTENCES * 21)
    with pytest.raises(AssertionError, match="trained again"):
        kzoo.open_dataset(f"text:{path}", length=16, vocabulary=256)


def test_what_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "blank", a="  \n ")
    write(tmp_path / "short", a="three short words")
    (tmp_path / "latin.txt").write_bytes("schön".encode("latin-1"))
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed/b.txt").write_bytes(b"ok \xff")
    for path, message in {
        "nowhere": "text:{}: no such file or folder",
        "empty": "text:{}: holds no .txt file; left out: nothing, it is empty",
        "blank": "text:{}: holds no text",
        "short": "text:{}: split 'train' has too little text for one passage of 64 tokens; give it more, or lower "
        "data.options.length",
        "latin.txt": "text:{}: byte 3 is no UTF-8; convert the file to UTF-8",
        "mixed": "text:{}: b.txt: byte 3 is no UTF-8; convert the file to UTF-8",
    }.items():
        with pytest.raises(DataError) as caught:
            kzoo.open_dataset(f"text:{tmp_path / path}")
        assert str(caught.value) == message.format(tmp_path / path)


def test_a_split_that_is_too_short_is_missed_only_where_it_is_asked_for(tmp_path):
    path = write(tmp_path, a=SENTENCES * 2) / "a.txt"
    assert kzoo.open_dataset(f"text:{path}", vocabulary=256, test_fraction=0.02).size
    with pytest.raises(DataError, match="split 'test' has too little text for one passage of 64 tokens"):
        kzoo.open_dataset(f"text:{path}", "test", vocabulary=256, test_fraction=0.02)


def test_listing_imports_neither_tensorflow_nor_tokenizers():
    code = "import sys, kzoo_text.plugin; print(*{'tensorflow', 'keras', 'tokenizers'} & set(sys.modules))"
    assert not subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()

"""Recipes: every mistake is one line with file, line and key, all at once; what is sound is written out in full."""

import json
import time
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, Field, ValidationError

from kzoo import BackboneSpec, DatasetSpec, MethodSpec, Options
from kzoo.errors import PluginError, RecipeError
from kzoo.plugins import registry
from kzoo.recipe.load import load
from kzoo.recipe.schema import Recipe, dump, recipe_hash

SOUND = """\
kzoo: 1
name: quick
data: {name: digits}
backbone:
  name: convnet
method:
  name: contrast
  options: {temperature: 0.2}
optimizer:
  learning_rate: 0.06
  per: 256
train:
  epochs: 5
  batch_size: 512
"""


@pytest.fixture
def write(tmp_path, monkeypatch, zoo):
    """write(text) -> "r.yaml", in the current folder."""
    monkeypatch.chdir(tmp_path)

    def put(text: str) -> str:
        Path("r.yaml").write_text(text, encoding="utf-8")
        return "r.yaml"

    return put


def problems(path: str, *overrides: str) -> list[str]:
    with pytest.raises((RecipeError, PluginError)) as error:
        load(path, overrides)
    return str(error.value).splitlines()


def test_a_minimal_recipe_has_sensible_defaults(write):
    recipe = load(write("name: a\ndata: {name: digits}\nbackbone: {name: convnet}\nmethod: {name: contrast}\n"))
    assert (recipe.kzoo, recipe.seed, recipe.data.split) == (1, 0, "train")
    assert recipe.method.options == {"size": None, "temperature": 0.1, "projector": [64, 32]}
    assert recipe.backbone.options == {"width": 64}
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate, recipe.optimizer.per) == ("sgd", 0.06, None)
    assert recipe.scaled_learning_rate == 0.06
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.jit_compile) == (100, 256, "auto")
    assert recipe.evaluate.knn.k == 20
    assert recipe.export.formats == ("saved_model",)


def test_the_learning_rate_is_scaled_by_the_global_batch(write):
    recipe = load(write(SOUND))
    assert recipe.scaled_learning_rate == pytest.approx(0.06 * 512 / 256)


# (what replaces what in SOUND, the one line that kzoo answers)
WRONG = {
    "misspelt key": (
        ("learning_rate:", "learning_rat:"),
        "r.yaml:10: optimizer.learning_rat: unknown key; did you mean 'learning_rate'?",
    ),
    "misspelt section": (("train:", "trian:"), "r.yaml:12: trian: unknown key; did you mean 'train'?"),
    "key of another section": (
        ("  per: 256", "  epochs: 3"),
        "r.yaml:11: optimizer.epochs: unknown key; did you mean 'train.epochs'?",
    ),
    "key of the recipe itself": (
        ("  epochs:", "  seed:"),
        "r.yaml:13: train.seed: unknown key; did you mean 'seed', outside 'train'?",
    ),
    "option outside options": (
        ("  options: {temperature: 0.2}", "  temperature: 0.2"),
        "r.yaml:8: method.temperature: unknown key; did you mean 'method.options.temperature'?",
    ),
    "misspelt option": (
        ("temperature", "temperatur"),
        "r.yaml:8: method.options.temperatur: unknown key; did you mean 'temperature'?",
    ),
    "no such option": (
        ("temperature", "zzz"),
        "r.yaml:8: method.options.zzz: unknown key; known: size, temperature, projector",
    ),
    "option out of range": (
        ("temperature: 0.2", "temperature: 0"),
        "r.yaml:8: method.options.temperature: should be greater than 0; received 0",
    ),
    "required option": (
        ("{name: digits}", "{name: photos}"),
        "r.yaml:3: data.options.root: missing",
    ),
    "text for a number": (
        ("epochs: 5", 'epochs: "5"'),
        'r.yaml:13: train.epochs: should be a valid integer; received "5"',
    ),
    "true for a number": (
        ("epochs: 5", "epochs: true"),
        "r.yaml:13: train.epochs: should be a valid integer; received true",
    ),
    "out of range": (
        ("epochs: 5", "epochs: 0"),
        "r.yaml:13: train.epochs: should be greater than or equal to 1; received 0",
    ),
    "infinity": (
        ("rate: 0.06", "rate: .inf"),
        "r.yaml:10: optimizer.learning_rate: should be a finite number; received Infinity",
    ),
    "no such feature": (
        ("train:\n", "evaluate: {features: [embedding, map_9]}\ntrain:\n"),
        "r.yaml:12: evaluate.features.1: no output 'map_9'; 'convnet' offers embedding, map, map_1; "
        "did you mean 'map_1'?",
    ),
    "not a choice": (
        ("per: 256", "schedule: cosin"),
        "r.yaml:11: optimizer.schedule: should be 'constant', 'cosine' or 'step'; received \"cosin\"",
    ),
    "not a section": (
        ("backbone:\n  name: convnet\n", "backbone: convnet\n"),
        'r.yaml:4: backbone: should be a section, `key: value`; received "convnet"',
    ),
    "missing section": (
        ("method:\n  name: contrast\n  options: {temperature: 0.2}\n", ""),
        "r.yaml:1: method: missing; `kzoo list methods` names those installed",
    ),
    "missing name": (
        ("{name: digits}", "{split: train}"),
        "r.yaml:3: data.name: missing; `kzoo list datasets` names those installed",
    ),
    "no name for the run": (("name: quick\n", ""), "r.yaml:1: name: missing; it names the run's folder"),
    "folder outside": (
        ("name: quick", "name: ../quick"),
        "r.yaml:2: name: \"../quick\" cannot name a folder; use letters, digits, '.', '_' and '-', 64 at most",
    ),
    "newer format": (
        ("kzoo: 1", "kzoo: 2"),
        "r.yaml:1: kzoo: this kzoo 0.1.0 reads format 1; received 2; pip install --upgrade kzoo",
    ),
    "duplicate key": (
        ("  per: 256", "  learning_rate: 1"),
        "r.yaml:11: optimizer.learning_rate: repeated; first on line 10",
    ),
    "unknown method": (
        ("name: contrast", "name: contrst"),
        "r.yaml:7: method.name: unknown method 'contrst'; did you mean 'contrast'?",
    ),
    "import path": (
        ("name: contrast", "name: 'os:system'"),
        "r.yaml:7: method.name: 'os:system' is not a registered name; a recipe never names code or files to import",
    ),
    "import path of data": (
        ("{name: digits}", "{name: my.module}"),
        "r.yaml:3: data.name: 'my.module' is not a registered name, 'tfds:<builder>' or 'folder:<path>'; "
        "a recipe never names code or files to import",
    ),
    "tag": (
        ("epochs: 5", "epochs: !!python/name:os.system x"),
        "r.yaml:13: train.epochs: tag tag:yaml.org,2002:python/name:os.system is not allowed; write a plain value",
    ),
    "tag that lies": (("epochs: 5", "epochs: !!int five"), "r.yaml:13: train.epochs: 'five' is not of type !!int"),
    "anchor": (
        ("epochs: 5", "epochs: &five 5"),
        "r.yaml:13: train.epochs: anchors and aliases are not allowed; write the value out",
    ),
    "key that is a list": (("  epochs: 5", "  [a]: 5"), "r.yaml:13: keys are plain words; neither '<<' nor lists are"),
    "unclosed bracket": (
        ("{temperature: 0.2}", "{temperature: 0.2"),
        "r.yaml:9: not YAML: while parsing a flow mapping expected ',' or '}', but got ':'",
    ),
    "no such split": (
        ("{name: digits}", "{name: digits, split: trian}"),
        "r.yaml:3: data.split: 'digits' has no split 'trian'; it has train, test; did you mean 'train'?",
    ),
    "other modality": (
        ("name: convnet", "name: word_encoder"),
        "r.yaml:5: backbone.name: 'word_encoder' is for text, method 'contrast' for image",
    ),
    "other modality of the data": (
        ("{name: digits}", "{name: mails}"),
        "r.yaml:3: data.name: 'mails' is for text, method 'contrast' for image",
    ),
    "too small for the backbone": (
        ("name: convnet", "name: transformer"),
        "r.yaml:3: data.name: images of 28 px are too small for 'transformer', which takes 32 and up",
    ),
    "devices": (
        ("batch_size: 512", "batch_size: 510\n  devices: 4"),
        "r.yaml:14: train.batch_size: 510 does not divide over 4 devices; take a multiple of 4",
    ),
    "devices and parts": (
        ("batch_size: 512", "batch_size: 510\n  devices: 2\n  accumulate: 2"),
        "r.yaml:14: train.batch_size: 510 does not divide over 2 devices x 2 accumulated parts; take a multiple of 4",
    ),
    "one device": (
        ("epochs: 5", "strategy: single\n  devices: 2"),
        "r.yaml:14: train.devices: strategy single uses one device; received 2; use mirrored",
    ),
    "long warm-up": (
        ("per: 256", "warmup_epochs: 6"),
        "r.yaml:11: optimizer.warmup_epochs: 6 is more than train.epochs, 5",
    ),
    "step without milestones": (
        ("per: 256", "schedule: step"),
        "r.yaml:9: optimizer.milestones: missing; schedule step drops the learning rate at these epochs",
    ),
    "milestones without step": (
        ("per: 256", "milestones: [3]"),
        "r.yaml:11: optimizer.milestones: only schedule step can use it, not cosine",
    ),
    "milestones after the end": (
        ("per: 256", "schedule: step\n  milestones: [3, 5]"),
        "r.yaml:12: optimizer.milestones: expected rising epochs between 0 and 5; received [3, 5]",
    ),
    "no default rate": (
        ("learning_rate: 0.06\n  per: 256", "name: adam"),
        "r.yaml:9: optimizer.learning_rate: missing; only sgd has a default, adam needs its own",
    ),
    "setting of another optimizer": (
        ("per: 256", "trust_coefficient: 0.1"),
        "r.yaml:11: optimizer.trust_coefficient: only lars can use it, not sgd",
    ),
    "coupled adamw": (
        ("per: 256", "name: adamw\n  decay: coupled"),
        "r.yaml:12: optimizer.decay: adamw is decoupled by definition; coupled decay is `name: adam`",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(case, write):
    (old, new), line = WRONG[case]
    assert old in SOUND
    assert problems(write(SOUND.replace(old, new, 1))) == [line]


def test_a_backbone_that_lacks_what_the_method_needs(write):
    text = SOUND.replace("name: contrast\n  options: {temperature: 0.2}", "name: tiles")
    text = text.replace("convnet", "transformer").replace("{name: digits}", "{name: 'folder:x'}")
    assert problems(write(text)) == [
        "r.yaml:5: backbone.name: 'transformer' offers embedding, tokens; method 'tiles' needs map; "
        "backbones that have it: convnet"
    ]


def test_a_backbone_that_cannot_do_what_the_method_needs(write, stub, fake, install):
    some = {"target": "a:b", "options": Options, "family": "f", "summary": "s"}
    install(
        stub,
        fake(
            "masks",
            methods=[MethodSpec(name="hide", paper="p", requires=("tokens", "token_subset"), **some)],
            backbones=[
                BackboneSpec(name="patched", offers=("embedding", "tokens"), abilities=("token_subset",), **some)
            ],
        ),
    )
    text = SOUND.replace("name: contrast\n  options: {temperature: 0.2}", "name: hide")
    text = text.replace("{name: digits}", "{name: 'folder:x'}")
    assert load(write(text.replace("convnet", "patched"))).backbone.name == "patched"
    assert problems(write(text.replace("convnet", "transformer"))) == [
        "r.yaml:5: backbone.name: 'transformer' offers embedding, tokens; method 'hide' needs token_subset; "
        "backbones that have it: patched"
    ]


def test_a_plugins_prefix_names_data_as_kzoos_own_do(write, stub, fake, install):
    tales = DatasetSpec(name="tales:<path>", target="a:b", options=Options, summary="s", modality="text", splits=())
    install(stub, fake("tales", datasets=[tales]))
    text = SOUND.replace("name: contrast\n  options: {temperature: 0.2}", "name: masked_words")
    text = text.replace("convnet", "word_encoder").replace("{name: digits}", "{name: 'tales:/a/b.c'}")
    assert load(write(text)).data.name == "tales:/a/b.c"
    assert problems(write(text.replace("tales:/a", "tails:/a"))) == [
        "r.yaml:3: data.name: 'tails:/a/b.c' is not a registered name, 'tfds:<builder>', 'folder:<path>' or "
        "'tales:<path>'; a recipe never names code or files to import"
    ]


def test_outputs_that_the_method_adds_to_the_backbones_can_be_probed(write, stub, fake, install):
    coder = MethodSpec(
        name="coder",
        target="not_imported:coder",
        options=Options,
        family="stub",
        summary="Has outputs of its own",
        paper="Someone 2020",
        offers=("code",),
    )
    install(stub, fake("coder", methods=[coder]))
    text = SOUND.replace("name: contrast\n  options: {temperature: 0.2}", "name: coder")
    text += "evaluate: {features: [embedding, code]}\n"
    assert load(write(text)).evaluate.features == ("embedding", "code")
    assert problems(write(text.replace("code]", "cod]"))) == [
        "r.yaml:14: evaluate.features.1: no output 'cod'; 'convnet' offers embedding, map, map_1; "
        "'coder' offers code; did you mean 'code'?"
    ]


def test_channels_that_the_method_cannot_learn_from(write):
    text = SOUND.replace("name: contrast\n  options: {temperature: 0.2}", "name: tiles")
    assert problems(write(text)) == ["r.yaml:3: data.name: 'digits' has 1 channel(s); method 'tiles' needs 3"]


def test_all_mistakes_at_once_in_the_order_of_the_file(write):
    text = (
        SOUND.replace("digits", "digit")
        .replace("0.2", "-1")
        .replace("per: 256", "pre: 256")
        .replace("epochs: 5", "epochs: five")
    )
    assert [line.split(": ")[:2] for line in problems(write(text), "train.checkpoint.keep=0", "seed=x")] == [
        ["r.yaml:3", "data.name"],
        ["r.yaml:8", "method.options.temperature"],
        ["r.yaml:11", "optimizer.pre"],
        ["r.yaml:13", "train.epochs"],
        ["--set train.checkpoint.keep=0", "should be greater than or equal to 1; received 0"],
        ["--set seed=x", 'should be a valid integer; received "x"'],
    ]


def test_only_plugin_problems_are_a_plugin_error_others_a_recipe_error(write):
    unknown = SOUND.replace("convnet", "convnett")
    with pytest.raises(PluginError):
        load(write(unknown))
    with pytest.raises(RecipeError):
        load(write(unknown.replace("epochs: 5", "epochs: 0")))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "r.yaml: is not a recipe; write `name: ...`, `data: ...`, `backbone: ...`, `method: ...`"),
        ("- 1", "r.yaml: is not a recipe; write `name: ...`, `data: ...`, `backbone: ...`, `method: ...`"),
        ("a: b: c", "r.yaml:1: not YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "r.yaml:2: not YAML: expected a single document in the stream but found another document"),
        ("a: \x01", "r.yaml: not YAML: unacceptable character #x0001: special characters are not allowed"),
        ("a: " + "[x, " * 500, "r.yaml: is nested too deeply"),
        ("- " * 5000, "r.yaml: is nested too deeply"),
        ("a: " + "x" * 20_000, "r.yaml: is larger than 20 kB; a recipe is a short text"),
    ],
    ids=["empty", "list", "syntax", "two documents", "control character", "deep brackets", "deep lists", "large"],
)
def test_what_is_not_a_recipe(text, line, write):
    assert problems(write(text)) == [line]


def test_files_that_cannot_be_read(write, tmp_path):
    assert problems("none.yaml") == ["none.yaml: no such file; name a recipe, for example recipes/quickstart.yaml"]
    assert problems(str(tmp_path)) == [f"{tmp_path}: cannot be read: Is a directory"]
    Path("latin.yaml").write_bytes("name: é".encode("latin-1"))
    assert problems("latin.yaml") == ["latin.yaml: is not UTF-8 text"]


def test_a_billion_laughs_is_refused_quickly(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    start = time.perf_counter()
    found = problems(write(SOUND + "\n".join(lines)))
    assert time.perf_counter() - start < 1
    assert "r.yaml:15: a0: anchors and aliases are not allowed; write the value out" in found


def test_yaml_is_1_2(write):
    text = SOUND.replace("epochs: 5", "epochs: 0o12").replace("0.06", "6e-2").replace("quick", "no")
    recipe = load(write(text))
    assert (recipe.train.epochs, recipe.optimizer.learning_rate, recipe.name) == (10, 0.06, "no")


def test_overrides_win_and_are_read_as_yaml(write):
    recipe = load(
        write(SOUND),
        [
            "method.options.temperature=0.5",
            "method.options.projector=[16, 8]",
            "evaluate.knn=null",
            "evaluate.data.name=digits",
            "evaluate.data.split=test",
            "export.formats=[]",
            "train.jit_compile=false",
            "seed=3",
        ],
    )
    assert recipe.method.options == {"size": None, "temperature": 0.5, "projector": [16, 8]}
    assert recipe.evaluate.knn is None
    assert (recipe.evaluate.data.name, recipe.evaluate.data.split) == ("digits", "test")
    assert (recipe.export.formats, recipe.train.jit_compile, recipe.seed) == ((), False, 3)


def test_an_override_mends_what_the_file_has_wrong(write):
    path = write(SOUND.replace("temperature: 0.2", "temperature: -1"))
    assert load(path, ["method.options.temperature=1"]).method.options["temperature"] == 1
    assert load(path, ["method.options={}"]).method.options["temperature"] == 0.1


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer.learning_rat=1", "--set optimizer.learning_rat=1: unknown key; did you mean 'learning_rate'?"),
        ("optimizer.lr=x", "--set optimizer.lr=x: unknown key; known: "),
        ("train.epochs=many", '--set train.epochs=many: should be a valid integer; received "many"'),
        ("train.epochs", "--set train.epochs: write key=value, for example train.epochs=10"),
        ("=3", "--set =3: write key=value, for example train.epochs=10"),
        ("train..epochs=3", "--set train..epochs=3: write key=value, for example train.epochs=10"),
        ("train.epochs.x=3", "--set train.epochs.x=3: train.epochs is not a section"),
        (
            "seed=[1",
            "--set seed=[1: not YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'",
        ),
        (
            "seed=!!python/name:os.system x",
            "--set seed=!!python/name:os.system x: tag tag:yaml.org,2002:python/name:os",
        ),
        (
            "method.options={temperature: 0}",
            "--set method.options={temperature: 0}: method.options.temperature: should be greater than 0; received 0",
        ),
        ("method.name=contrst", "--set method.name=contrst: unknown method 'contrst'; did you mean 'contrast'?"),
    ],
)
def test_a_wrong_override_is_one_line(override, line, write):
    found = problems(write(SOUND), override)
    assert len(found) == 1
    assert found[0].startswith(line)


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1.0e400"])
@pytest.mark.parametrize("key", ["method.options.temperature", "optimizer.learning_rate", "method.options.loose"])
def test_what_is_no_finite_number_is_refused_everywhere(key, number, write, fake, install):
    class Loose(Options):
        temperature: float = Field(0.1, description="softmax temperature")
        loose: float | None = Field(None, description="any number")

    shared = {"target": "a:b", "summary": "s"}
    method = MethodSpec(name="contrast", options=Loose, family="f", paper="p", **shared)
    backbone = BackboneSpec(name="convnet", options=Options, family="f", **shared)
    digits = DatasetSpec(name="digits", options=Options, **shared)
    install(fake("m", methods=[method], backbones=[backbone], datasets=[digits]))
    names = "name: a\ndata: {name: digits}\nbackbone: {name: convnet}\nmethod: {name: contrast}\n"
    [line] = problems(write(names), f"{key}={number}")
    assert line.startswith(f"--set {key}={number}: should be a finite number")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone.options.width=1" + 30 * "0", "numbers reach from -2,147,483,647 to 2,147,483,647; received 1e+30"),
        ("train.epochs=1" + 12 * "0", "numbers reach from"),
        ("method.options.size=1000000", "should be less than or equal to 4096"),
        ("method.options.size=-1", "should be greater than or equal to 8"),
    ],
)
def test_absurd_sizes_are_refused_by_the_recipe(override, message, write):
    [line] = problems(write(SOUND), override)
    assert line.startswith(f"--set {override}: {message}")


def whole_numbers(annotation):
    """Whether a field holds whole numbers: int, int or null, a list of them."""
    arguments = [argument for argument in get_args(annotation) if argument not in (type(None), ...)]
    return annotation is int or (bool(arguments) and whole_numbers(arguments[0]))


def test_every_bundled_option_that_counts_or_measures_has_two_ends():
    specs = [*registry.methods(), *registry.backbones(), *registry.datasets()]
    tried = 0
    for spec in specs:
        for name, field in spec.options.model_fields.items():
            if whole_numbers(field.annotation):
                several = "tuple" in str(field.annotation)
                for value in (-1, -(10**6), 10**8):
                    row = (value,) * len(field.default or (1, 1)) if several else value
                    with pytest.raises(ValidationError):
                        spec.options.model_validate({name: row})
                    tried += 1
    assert tried > 100


def test_one_complaint_about_a_list_whose_items_are_wrong(write):
    [line] = problems(write(SOUND), "method.options.projector=[-1]")
    assert line.endswith("method.options.projector.0: should be greater than or equal to 1; received -1")


def test_what_is_written_out_is_complete_and_reads_back_equal(write):
    recipe = load(write(SOUND), ["evaluate.data={name: photos, split: validation, options: {root: 'on: off'}}"])
    text = dump(recipe)
    assert load(write(text)) == recipe
    assert dump(load("r.yaml")) == text
    assert "momentum: 0.9" in text
    assert "projector:" in text
    assert "shuffle: true" in text


def test_the_hash_changes_with_what_decides_the_weights_and_only_with_that(write):
    path = write(SOUND)
    same = [
        "name=other",
        "train.devices=2",
        "train.checkpoint.keep=9",
        "train.epochs=6",
        "evaluate.knn=null",
        "export.formats=[]",
        "train.strategy=mirrored",
    ]
    other = [
        "seed=1",
        "train.batch_size=256",
        "method.options.temperature=0.3",
        "train.precision=mixed_float16",
    ]
    base = recipe_hash(load(path))
    assert {recipe_hash(load(path, [override])) for override in same} == {base}
    hashes = {recipe_hash(load(path, [override])) for override in other}
    assert len(hashes | {base}) == len(other) + 1
    assert recipe_hash(load(path, ["method.options.projector=[64, 32]"])) == base


def test_every_setting_is_described():
    def undescribed(model: type[BaseModel], path: str = ""):
        for name, info in model.model_fields.items():
            if not info.description:
                yield path + name
            for part in (info.annotation, *getattr(info.annotation, "__args__", ())):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    yield from undescribed(part, f"{path}{name}.")

    assert list(undescribed(Recipe)) == []
    assert "learning_rate" in json.dumps(Recipe.model_json_schema())


def test_a_broken_plugin_matters_only_to_the_recipe_that_names_it(write, stub, fake, install):
    def failing():
        raise ImportError("no torch")

    install(stub, fake("torchy", load=failing))
    assert load(write(SOUND)).method.name == "contrast"
    assert problems(write(SOUND.replace("name: contrast", "name: byol"))) == [
        "r.yaml:7: method.name: unknown method 'byol'; plugin 'torchy' (kzoo-torchy 1.2) may bring it but is broken: "
        "ImportError: no torch; pip install --upgrade kzoo-torchy, or switch it off with KZOO_DISABLE_PLUGINS=torchy; "
        "`kzoo list methods` names those installed"
    ]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("train.batch_size=1",), "'contrast' learns nothing from fewer than 2 examples at once; received 1"),
        (
            ("train.accumulate=4", "train.batch_size=4"),
            "'contrast' learns nothing from fewer than 2 examples at once; received 4 in 4 parts",
        ),
        (("train.accumulate=2", "train.batch_size=4"), ""),
        (("method.name=masked_words", "train.batch_size=1"), ""),
        (("method.name=tiles", "train.jit_compile=true"), "XLA cannot compile 'tiles'; set auto or false"),
        (("method.name=tiles", "train.jit_compile=auto"), ""),
        (("train.jit_compile=true",), ""),
    ],
)
def test_a_step_that_the_method_cannot_make_is_refused_by_name(overrides, problem, write):
    lines = problems(write(SOUND), *overrides, "seed=x")  # which is always wrong
    found = [line for line in lines if line.startswith("--set train.")]
    assert found == [f"--set {overrides[-1]}: {problem}"] * bool(problem)


# ---- callbacks -------------------------------------------------------------------------------------------------------


class LoggerOptions(Options):
    project: str = Field(description="what runs belong to")
    every: int = Field(1, ge=1, description="epochs between two figures")


@pytest.fixture
def logger(stub, fake, install):
    return install(stub, fake("my_logger", callback_options=lambda: LoggerOptions))


def test_what_a_recipe_says_to_callbacks_is_checked_and_written_out_in_full(write, logger):
    recipe = load(write(SOUND + "callbacks: {my_logger: {project: cats}}\n"))
    assert recipe.callbacks == {"my_logger": {"project": "cats", "every": 1}}
    assert recipe_hash(recipe) == recipe_hash(load(write(SOUND)))  # a resumed run may log elsewhere
    assert problems(write(SOUND + "callbacks:\n  my_logger: {projct: cats, every: 0}\n  wandb: {}\n")) == [
        "r.yaml:16: callbacks.my_logger.project: missing",
        "r.yaml:16: callbacks.my_logger.every: should be greater than or equal to 1; received 0",
        "r.yaml:16: callbacks.my_logger.projct: unknown key; did you mean 'project'?",
        "r.yaml:17: callbacks.wandb: no plugin 'wandb' whose callbacks take options; known: my_logger",
    ]
    assert problems(write(SOUND + "callbacks: {my_loger: {}}\n")) == [
        "r.yaml:15: callbacks.my_loger: no plugin 'my_loger' whose callbacks take options; did you mean 'my_logger'?"
    ]

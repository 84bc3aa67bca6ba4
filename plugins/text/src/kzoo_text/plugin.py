"""What the text family brings. Light: what the targets name is imported on use."""

from collections.abc import Iterator

from kzoo.hookspecs import hookimpl
from kzoo.specs import BackboneSpec, DatasetSpec, MethodSpec
from kzoo_text.options import (
    BertOptions,
    MaskedLanguageModelOptions,
    PassageOptions,
    SimCSEOptions,
    SpanCorruptionOptions,
    TextFileOptions,
)


@hookimpl
def kzoo_methods() -> Iterator[MethodSpec]:
    yield MethodSpec(
        name="masked_language_model",
        target="kzoo_text.masked_language_model:MaskedLanguageModel",
        options=MaskedLanguageModelOptions,
        family="text",
        summary="Name words of a passage that were hidden (BERT)",
        paper="Devlin, Chang, Lee, Toutanova, NAACL 2019, arXiv:1810.04805",
        modality="text",
        requires=("embedding", "tokens"),
        check_backbone="bert_tiny",
    )
    yield MethodSpec(
        name="span_corruption",
        target="kzoo_text.span_corruption:SpanCorruption",
        options=SpanCorruptionOptions,
        family="text",
        summary="Write the spans of a passage that were taken out (T5)",
        paper="Raffel et al., JMLR 2020, arXiv:1910.10683",
        modality="text",
        requires=("embedding", "tokens"),
        check_options={"layers": 1},
        check_backbone="bert_tiny",
    )
    yield MethodSpec(
        name="simcse",
        least_examples=2,
        target="kzoo_text.simcse:SimCSE",
        options=SimCSEOptions,
        family="text",
        summary="Find the same passage under other dropout among all others",
        paper="Gao, Yao, Chen, EMNLP 2021, arXiv:2104.08821",
        modality="text",
        requires=("embedding", "dropout"),
        check_backbone="bert_tiny",
        check_learning_rate=0.005,
    )


@hookimpl
def kzoo_backbones() -> Iterator[BackboneSpec]:
    for name, summary in (
        ("bert_tiny", "BERT of 2 layers, 128-wide embedding, 0.4 M parameters beside the words': trains on a CPU"),
        ("bert_mini", "BERT of 4 layers, 256-wide embedding, 3.2 M parameters beside the words'"),
        ("bert_small", "BERT of 4 layers, 512-wide embedding, 12.6 M parameters beside the words'"),
    ):
        yield BackboneSpec(
            name=name,
            target=f"kzoo_text.bert:{name}",
            options=BertOptions,
            family="bert",
            summary=summary,
            paper="Devlin et al. 2019, arXiv:1810.04805; sizes of Turc et al. 2019, arXiv:1908.08962",
            modality="text",
            offers=("embedding", "tokens"),
            abilities=("dropout",),
            check_options={"layers": 1},
        )


@hookimpl
def kzoo_datasets() -> Iterator[DatasetSpec]:
    yield DatasetSpec(
        name="python_docs",
        target="kzoo_text.python_docs:python_docs",
        options=PassageOptions,
        summary="Passages of the Python language reference, labelled by topic; train from the start of each, test "
        "from the end",
        modality="text",
        classes=12,
        licence="PSF-2.0",
        source="pydoc_data of the standard library",
    )
    yield DatasetSpec(
        name="text:<path>",
        target="kzoo_text.files:text_files",
        options=TextFileOptions,
        summary="A text file, or a folder of them; sub-folders, where there are any, are the splits or the classes",
        modality="text",
        splits=(),
        source="the files",
        path=True,
    )

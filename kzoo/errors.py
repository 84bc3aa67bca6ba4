"""What can go wrong, each with the exit code that `kzoo` ends with.

Every message is one line: what is wrong, where (file:line or key path), and what to do.
"""

from typing import Any


class KzooError(Exception):
    """Base of every error kzoo raises on purpose. Exit code 1: the run failed."""

    exit_code = 1


class RecipeError(KzooError):
    """The recipe or the call is wrong. Carries every problem found, one line each."""

    exit_code = 2

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class OptionsError(RecipeError):
    """A plugin's options were given an unknown key or a value out of range."""


class PluginError(KzooError):
    """A plugin, or a name only a plugin can give, is missing, broken or ambiguous."""

    exit_code = 3


class DataError(KzooError):
    """The dataset cannot be read, or does not hold what the method needs."""


class NoSplit(DataError):
    """The dataset has no split of this name."""


class NotPrepared(DataError):
    """The dataset is not on this machine yet."""


class SurroundingsError(KzooError):
    """The process inherited settings that kzoo cannot work under: those of Keras, or of its environment."""


class StrategyError(RecipeError):
    """The devices asked for are not available, or the batch does not divide over them."""


class TrainingError(KzooError):
    """Training stopped: a loss that is not a number, a folder that cannot be written."""


class Interrupted(TrainingError):
    """A signal stopped the training, which was saved first. Exit code as shells have it: 128 + the signal's number."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


class CheckpointError(KzooError):
    """A checkpoint is damaged, or belongs to another recipe, other plugins or other data."""


class EvaluationError(KzooError):
    """There is nothing that can be evaluated honestly."""


class NotKept(EvaluationError):
    """What was evaluated could not be written into the run. report: what would have been."""

    def __init__(self, message: str, report: dict[str, Any]):
        super().__init__(message)
        self.report = report


class BackboneError(KzooError):
    """There is no trained backbone to load, it is not the one that was written, or it does not fit."""


class PresetError(BackboneError):
    """The weights of a preset are not those that its record names, or not available."""


class PackError(KzooError):
    """A run cannot become a package: it is not finished, or its name or place cannot be used."""


class EmbeddingsError(KzooError):
    """A file of embeddings cannot be written, or holds none."""


class ExportError(KzooError):
    """The export was refused, or did not return what the backbone returns."""


class ServeError(KzooError):
    """There is no export that can be served, or no port to serve it on."""


class ConformanceError(KzooError):
    """A method or backbone breaks the contract: what is wrong, and what to change."""


def printable(text: str) -> str:
    """A name that others chose, fit for a line of a message or a terminal: what does not print is escaped.

    So are line breaks, escape sequences, marks that turn the direction of writing, and bytes that are not UTF-8, which
    Python keeps in file names as lone surrogates: `caf\\xe9`. What is printable already stays as it is.
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte, as os.fsdecode keeps it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()

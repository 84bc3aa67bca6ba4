"""The hooks a plugin may implement. Arguments and record fields are only ever added, never taken away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pluggy

from kzoo.options import Options
from kzoo.specs import BackboneSpec, DatasetSpec, FormatSpec, MethodSpec, ModalitySpec, PresetSpec

GROUP = "kzoo"  # the entry-point group, and pluggy's project name

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def kzoo_methods() -> Iterator[MethodSpec]:
    """Yield a record for each method the plugin brings."""
    return iter(())


@hookspec
def kzoo_backbones() -> Iterator[BackboneSpec]:
    """Yield a record for each backbone the plugin brings."""
    return iter(())


@hookspec
def kzoo_datasets() -> Iterator[DatasetSpec]:
    """Yield a record for each dataset the plugin brings."""
    return iter(())


@hookspec
def kzoo_modalities() -> Iterator[ModalitySpec]:
    """Yield a record for each kind of data the plugin brings, beside kzoo's own, images and text."""
    return iter(())


@hookspec
def kzoo_presets() -> Iterator[PresetSpec]:
    """Yield a record for each trained backbone the plugin brings; of those that `kzoo pack` wrote,
    `kzoo.presets.packed(__package__)` does.
    """
    return iter(())


@hookspec
def kzoo_formats() -> Iterator[FormatSpec]:
    """Yield a record for each file format of exports that the plugin brings, beside kzoo's own."""
    return iter(())


@hookspec
def kzoo_callback_options() -> type[Options] | None:
    """Return the options of the plugin's callbacks: what a recipe may write under `callbacks`, by the plugin's name.

    They are checked when the recipe is read, as all options are: `callbacks: {my_logger: {project: cats}}`.
    """
    return None


@hookspec
def kzoo_callbacks(recipe: Any, run_dir: Path, options: Options | None, worker: int) -> Iterator[Any]:
    """Yield Keras callbacks to add to a training run.

    recipe: the checked `kzoo.recipe.schema.Recipe`. run_dir: the run's folder, already made.
    options: what the recipe says to this plugin, of the class that `kzoo_callback_options` returns; None where the
    recipe does not name the plugin.
    worker: the number of this process among those that train together, 0 for the first, which alone writes the run. A
    hook that takes `worker` is asked on each of them; one that does not, on the first alone.
    A callback that has `get_state()`, which returns plain JSON values, and `set_state(state)` keeps its state when the
    run resumes: it is saved with each checkpoint and given back after `on_train_begin`; where the run resumes within an
    epoch, `on_epoch_begin` is not called again for it.
    """
    return iter(())

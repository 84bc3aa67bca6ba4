"""From a recipe's `train.strategy` and `train.devices` to a `tf.distribute` strategy."""

import json
import os
from typing import Any

import tensorflow as tf

from kzoo.errors import StrategyError
from kzoo.system import private


def make_strategy(strategy: str, devices: int | None, batch_size: int) -> tf.distribute.Strategy:
    """The strategy to train under.

    Args:
        strategy: "single" device; "mirrored" over the devices of this machine; "multi_worker" over those of all
            machines that TF_CONFIG names, or Slurm where there is none; "auto": multi_worker where TF_CONFIG is set,
            mirrored where there are several GPUs or `devices` asks for several, else single.
        devices: how many to use. Without GPUs the CPU is cut in so many logical devices, to try replicas anywhere.

    Raises:
        StrategyError: the devices are not there, TF_CONFIG cannot be used, or the global batch does not divide.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if strategy == "multi_worker" or (strategy == "auto" and "TF_CONFIG" in os.environ):
        made = _multi_worker(devices)
    elif strategy == "mirrored" or (strategy == "auto" and (devices or len(gpus)) > 1):
        devices = devices or max(1, len(gpus))
        _check_divides(batch_size, devices)
        made = _mirrored(gpus, devices)
    else:
        if (devices or 1) > 1:
            raise StrategyError(f"train.devices: strategy single uses one device, not {devices}; use mirrored")
        made = tf.distribute.get_strategy()
    _check_divides(batch_size, made.num_replicas_in_sync)
    return made


def _multi_worker(devices: int | None) -> tf.distribute.Strategy:
    if devices is not None:
        raise StrategyError("train.devices: multi_worker uses every device of every worker; leave devices out")
    resolver = None
    if "TF_CONFIG" in os.environ:
        _check_tf_config(os.environ["TF_CONFIG"])
    elif "SLURM_PROCID" in os.environ:
        # one task on each node, which uses all its GPUs: `srun --ntasks-per-node=1 kzoo train ...`
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(auto_set_gpu=False)
    else:
        raise StrategyError(
            "train.strategy: multi_worker needs TF_CONFIG or Slurm's variables in the environment of every worker; "
            "to try it on this machine: kzoo launch --workers 2 RECIPE"
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:  # "Collective ops must be configured at program startup"
        raise StrategyError(f"train.strategy: this process has used TensorFlow before: {error}; start anew") from error


def _check_tf_config(text: str) -> None:
    """Raise StrategyError, one line, where TensorFlow would wait for ever, or fail without saying why."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise StrategyError(f"TF_CONFIG: not JSON: {error}") from error
    workers = _at(config, "cluster", "worker")
    if not isinstance(workers, list) or not workers or not all(isinstance(w, str) and ":" in w for w in workers):
        raise StrategyError(
            f'TF_CONFIG: cluster.worker must list the address of each worker, ["host:port", ...]; received {workers}'
        )
    if repeated := sorted({worker for worker in workers if workers.count(worker) > 1}):
        raise StrategyError(f"TF_CONFIG: cluster.worker names {repeated[0]} twice; each worker needs its own address")
    if other := sorted(set(config["cluster"]) - {"worker"}):
        raise StrategyError(f"TF_CONFIG: cluster.{other[0]}: only workers train here; the first of them is the chief")
    kind, index = _at(config, "task", "type"), _at(config, "task", "index")
    if kind != "worker":
        raise StrategyError(f"TF_CONFIG: task.type must be 'worker'; received {kind!r}")
    if not isinstance(index, int) or not 0 <= index < len(workers):
        raise StrategyError(
            f"TF_CONFIG: task.index must say which of the {len(workers)} workers this is, 0 to {len(workers) - 1}; "
            f"received {index!r}"
        )


def _at(data: Any, *path: str) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _check_divides(batch_size: int, replicas: int) -> None:
    if batch_size % replicas:
        raise StrategyError(f"train.batch_size: {batch_size} does not divide over {replicas} replicas")


def describe(strategy: tf.distribute.Strategy) -> str:
    """E.g. "2 x CPU (MirroredStrategy)"."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if strategy.num_replicas_in_sync == 1:
        return kind
    return f"{strategy.num_replicas_in_sync} x {kind} ({type(strategy).__name__})"


def _mirrored(gpus: list, devices: int) -> tf.distribute.Strategy:
    if gpus:
        if devices > len(gpus):
            raise StrategyError(f"train.devices: {devices} asked for, this machine has {len(gpus)} GPUs")
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(devices)])
    split_cpu(devices)
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(devices)], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def split_cpu(devices: int) -> None:
    """Cut the CPU in logical devices; only possible before TensorFlow has used it, once in a process."""
    have = tf.config.list_logical_devices("CPU") if private.in_use() else None
    if have is None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
        have = tf.config.list_logical_devices("CPU")
    if len(have) < devices:
        raise StrategyError(
            f"train.devices: this process already uses {len(have)} CPU devices, not {devices}; start anew"
        )

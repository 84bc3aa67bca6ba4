"""From a recipe's `train.strategy` and `train.devices` to a `tf.distribute` strategy."""

import os

import tensorflow as tf

from kzoo.errors import StrategyError


def make_strategy(strategy: str, devices: int | None, batch_size: int) -> tf.distribute.Strategy:
    """The strategy to train under.

    Args:
        strategy: "single" device; "mirrored" over the devices of this machine; "multi_worker" as TF_CONFIG says;
            "auto": mirrored where there are several GPUs or `devices` asks for several, else single.
        devices: how many to use. Without GPUs the CPU is cut in so many logical devices, to try replicas anywhere.

    Raises:
        StrategyError: the devices are not there, or the global batch does not divide over them.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if strategy == "multi_worker":
        if "TF_CONFIG" not in os.environ:
            raise StrategyError("train.strategy: multi_worker needs TF_CONFIG in the environment of every worker")
        made = tf.distribute.MultiWorkerMirroredStrategy()
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
    have = tf.config.list_logical_devices("CPU") if _initialised() else None
    if have is None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
        have = tf.config.list_logical_devices("CPU")
    if len(have) < devices:
        raise StrategyError(
            f"train.devices: this process already uses {len(have)} CPU devices, not {devices}; start anew"
        )


def _initialised() -> bool:
    from tensorflow.python.eager import context

    return context.context()._initialized

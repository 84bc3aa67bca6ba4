"""Reads a SavedModel without running it, and refuses one that can do more than compute an answer."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from kzoo.errors import ExportError
from kzoo.system import private

# Stateful operations that an answer needs. Everything else that TensorFlow marks stateful has a side effect.
_STATEFUL = {"Assert", "Case", "If", "ReadVariableOp", "StatefulPartitionedCall", "VarHandleOp", "While"}
# Operations that reach files or the host although TensorFlow does not mark them stateful.
_REACHING_OUT = re.compile(r"Debug|.*Dataset|ReadFile|MatchingFiles|ShardedFilename|PyFunc|.*Vocab|InitializeTable")
# What TensorFlow's own saver, which restores the variables on loading, is made of.
_SAVER = {
    *(
        "AssignVariableOp",
        "Const",
        "DisableCopyOnRead",
        "Identity",
        "MergeV2Checkpoints",
        "NoOp",
        "Pack",
        "Placeholder",
    ),
    *("ReadVariableOp", "RestoreV2", "SaveV2", "Select", "ShardedFilename", "StatefulPartitionedCall"),
    *("StaticRegexFullMatch", "StringJoin"),
}


def check_ops(path: Path) -> None:
    """Read a SavedModel without running it, and refuse one that can do more than compute an answer.

    Operations with side effects (writing files or variables, calling Python, drawing from a hidden random state) and
    those that reach for files are refused everywhere, apart from TensorFlow's own saver, which may hold only what a
    saver needs.

    Raises:
        ExportError: naming the operations and where they are.
    """
    saved = SavedModel()
    saved.ParseFromString((Path(path) / "saved_model.pb").read_bytes())
    faults = [fault for meta in saved.meta_graphs for fault in _faults(meta)]
    if faults:
        raise ExportError(
            f"{path}: the graph holds operations that do more than compute: {', '.join(sorted(set(faults)))}"
        )


def _faults(meta: Any) -> Iterator[str]:
    """Each operation of a MetaGraphDef that may not be there, as "Operation in function"."""
    functions = {function.signature.name: list(function.node_def) for function in meta.graph_def.library.function}

    def reachable(nodes: list[NodeDef]) -> set[str]:
        found: set[str] = set()
        waiting = list(nodes)
        while waiting:
            for called in _called(waiting.pop()):
                if called in functions and called not in found:
                    found.add(called)
                    waiting += functions[called]
        return found

    entrances = {meta.saver_def.save_tensor_name.split(":")[0], meta.saver_def.restore_op_name} - {""}
    saver = reachable([node for node in meta.graph_def.node if node.name in entrances])
    rest = reachable([node for node in meta.graph_def.node if node.name not in entrances])
    # Whatever the saver does not own alone is the answer's, so that hiding inside the saver does not help.
    own = saver - rest - set(meta.object_graph_def.concrete_functions)
    for name, nodes in {"the main graph": meta.graph_def.node, **functions}.items():
        for node in nodes:
            if node.op in functions:
                continue
            allowed = node.op in _SAVER if name in own else _only_computes(node.op)
            if not allowed:
                yield f"{node.op} in {name}"


def _called(node: NodeDef) -> Iterator[str]:
    yield node.op
    for attribute in node.attr.values():
        yield attribute.func.name
        yield from (function.name for function in attribute.list.func)


def _only_computes(operation: str) -> bool:
    definition = private.operation(operation)
    if definition is None or _REACHING_OUT.match(operation):  # an operation that stock TensorFlow lacks is refused too
        return False
    return not definition.is_stateful or operation in _STATEFUL

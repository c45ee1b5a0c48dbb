"""What a TensorFlow saver saves, read from its graph: the inputs of its `SaveV2` ops. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

_STRING_BYTES = 64
"""What one element of a string tensor is taken to weigh when shards are planned."""

_FIRST_TENSOR = 3
"""The first inputs of a `SaveV2` are the prefix, the names and the slices."""

_NO_UPDATE = frozenset({"AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp", "ResourceGather"})
"""What uses a variable's handle and does not train it: an initialiser and a restore assign plainly."""

_HARMLESS_STATE = frozenset({"MergeV2Checkpoints", "Placeholder", "PlaceholderWithDefault", "Const"})


class UnreadableSaverError(Exception):
    """Report a saver that does more than `SaveV2` and merge, or something else; internal to snapshots."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedTensor:
    """Describe one tensor (or one slice of a partitioned variable) that a saver writes.

    `name` and `slice_spec` are its entry in the checkpoint, `tensor` is what is written,
    `save_op` the `SaveV2` op that takes it, `size` its bytes where known beforehand.
    """

    name: str
    slice_spec: str
    tensor: tf.Tensor
    save_op: tf.Operation
    size: int | None

    @property
    def dtype(self) -> tf.DType:
        """Return the type of the values, never that of a reference to them."""
        return self.tensor.dtype.base_dtype

    @property
    def device(self) -> str:
        """Return the device whose memory `SaveV2` reads: a CPU, of the save op's own machine."""
        spec = tf.DeviceSpec.from_string(self.save_op.device)
        if spec.device_type == "CPU":
            return str(self.save_op.device)
        return str(spec.replace(device_type="CPU", device_index=0).to_string())

    @property
    def copy_on_write(self) -> bool:
        """Tell whether the tensor stays as it is while it is held, whatever runs next.

        True of reads of resource variables, whose next update goes to a fresh buffer when theirs is
        held, and of constants. Not of anything else: reference variables are updated in place, and
        so are, for one, the buckets that a `MutableDenseHashTable` exports.
        """
        tensor = self.tensor
        # a reference may be anywhere on the way: Identity of one shares its memory
        while tensor.op.type == "Identity" and not _is_ref(tensor):
            tensor = tensor.op.inputs[0]
        return not _is_ref(tensor) and tensor.op.type in ("ReadVariableOp", "Const")

    @property
    def frozen(self) -> bool:
        """Tell whether nothing in the graph updates it but what initialises or restores variables.

        A guess, for the cut of the shards alone: what is plainly assigned while training is taken
        for frozen, and what the graph hides in functions is not.
        """
        tensor = self.tensor
        while tensor.op.type == "Identity" and not _is_ref(tensor):
            tensor = tensor.op.inputs[0]
        if tensor.op.type == "Const":
            return True
        if tensor.op.type != "ReadVariableOp":
            return False
        handle = tensor.op.inputs[0]
        return all(op.type in _NO_UPDATE or not op.op_def.is_stateful for op in handle.consumers())


def read_saver(graph: tf.Graph, saver: tf.compat.v1.train.Saver) -> tuple[SavedTensor, ...]:
    """Return what `saver` writes, in the order in which it names it.

    Raises:
        UnreadableSaverError: it writes by other means than `SaveV2` (the V1 format, a `save` of its
            own), or runs something else on the way; then only its own `save` can tell.
    """
    save = getattr(saver, "save", None)
    if getattr(save, "__func__", None) is not tf.compat.v1.train.Saver.save:
        raise UnreadableSaverError(f"{type(saver).__qualname__} has a save() of its own")
    if saver.saver_def is None:
        raise UnreadableSaverError("the saver has nothing to save")
    start = graph.get_tensor_by_name(saver.saver_def.save_tensor_name).op
    tensors = tuple(saved for op in _find_save_ops(start) for saved in _read_save_op(op))
    if not tensors:
        raise UnreadableSaverError(f"no SaveV2 op behind {saver.saver_def.save_tensor_name}")
    return tensors


def _find_save_ops(start: tf.Operation) -> Iterator[tf.Operation]:
    """Walk back from the op that a saver runs, and return the save ops in the order of the inputs."""
    seen = {start}
    stack = [start]
    while stack:
        op = stack.pop()
        inputs = op.inputs
        if op.type == "SaveV2":
            yield op
            inputs = inputs[:_FIRST_TENSOR]
        elif op.op_def.is_stateful and op.type not in _HARMLESS_STATE:
            raise UnreadableSaverError(f"it runs {op.name} ({op.type}) on the way")
        before = [tensor.op for tensor in inputs] + list(op.control_inputs)
        for each in reversed(before):
            if each not in seen:
                seen.add(each)
                stack.append(each)


def _read_save_op(op: tf.Operation) -> Iterator[SavedTensor]:
    names, specs = (tf.get_static_value(tensor) for tensor in op.inputs[1:_FIRST_TENSOR])
    if names is None or specs is None:
        raise UnreadableSaverError(f"the names that {op.name} writes are not constants")
    for name, spec, tensor in zip(names, specs, op.inputs[_FIRST_TENSOR:], strict=True):
        yield SavedTensor(
            name=name.decode(), slice_spec=spec.decode(), tensor=tensor, save_op=op, size=_size(tensor)
        )


def _size(tensor: tf.Tensor) -> int | None:
    elements: int | None = tensor.shape.num_elements()
    if elements is None:
        return None
    dtype = tensor.dtype.base_dtype
    return elements * (_STRING_BYTES if dtype == tf.string else int(dtype.size))


def _is_ref(tensor: tf.Tensor) -> bool:
    # tf.DType tells it only through private names or its number, see DT_FLOAT_REF and the rest in
    # https://github.com/tensorflow/tensorflow/blob/v2.15.1/tensorflow/core/framework/types.proto
    return bool(tensor.dtype != tensor.dtype.base_dtype)

"""The description of a user's graph that goes with its checkpoints: what `Saver.save` writes as `.meta`."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

SCOPE = "ackpt_snapshot"
"""The name scope of every op that a snapshot adds to a user's graph."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphDescription:
    """Hold a graph as its user made it, without the ops that snapshots add to it."""

    graph_def: tf.compat.v1.GraphDef
    meta_graph: tf.compat.v1.MetaGraphDef


def describe_graph(graph: tf.Graph, saver: tf.compat.v1.train.Saver) -> GraphDescription:
    """Describe `graph` with its collections and `saver`, for `tf.compat.v1.train.import_meta_graph`.

    Takes as long as one of the exports that TensorFlow's hook does at every save.

    Raises:
        ValueError: the graph is larger than a protocol buffer can be (2 GiB).
    """
    with graph.as_default():
        graph_def = graph.as_graph_def(add_shapes=True)
        theirs = [node for node in graph_def.node if not node.name.startswith(f"{SCOPE}/")]
        if len(theirs) < len(graph_def.node):
            del graph_def.node[:]
            graph_def.node.extend(theirs)
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, saver_def=saver.saver_def)
    return GraphDescription(graph_def=graph_def, meta_graph=meta_graph)

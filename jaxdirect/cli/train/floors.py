"""What a trained network has to beat."""

from __future__ import annotations

import dataclasses

from jaxdirect.cli.train.loop import Trainer
from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.step import Inputs
from jaxdirect.data import Graph, floors

_EPOCHS = 3


def measure_floors(graph: Graph, inputs: Inputs, options: Options) -> dict[str, float]:
    """Test accuracies of the floors.

    Args:
        graph: the data set.
        inputs: the same, as the steps read it.
        options: of the run; the text-only network has its width, batches and learning rate.

    Returns:
        By name: the majority class, the label vote of the neighbours, and the features alone.
    """
    simple = floors(graph)
    alone = dataclasses.replace(options, fanout=(), eval_fanout=(), epochs=_EPOCHS)
    trainer = Trainer.create(graph, inputs, alone)
    state = trainer.initial
    for epoch in range(_EPOCHS):
        state, _ = trainer.epoch(state, epoch, lambda: None)
    return {
        "majority": simple.majority,
        "features alone": trainer.test(state),
        "label vote of neighbours": simple.label_vote,
    }

"""What a trained network has to beat."""

from __future__ import annotations

import dataclasses

from rich.console import Console

from jaxdirect.cli.train.loop import Trainer
from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.sage import sage_task, with_options
from jaxdirect.cli.train.task import Task
from jaxdirect.data import Graph, floors, relational_floors

_EPOCHS = 3


def measure_floors(task: Task, options: Options, console: Console) -> dict[str, float]:
    """Test accuracies of the floors.

    Args:
        task: of the run.
        options: of the run; the networks among the floors have its seed, and where it trains on
            batches its width, batches and learning rate.
        console: where to say what is going on.

    Returns:
        By name: the majority class, the label vote of the neighbours, and the features alone; for
        a relational network also naive Bayes over typed edges, and GraphSAGE on the same features.
    """
    graph, found = task.graph, {}
    with console.status("floors: counting"):
        if isinstance(graph, Graph):
            simple = floors(graph)
        else:
            simple = relational_floors(graph)
            found["naive Bayes on relations and labels of neighbours"] = simple.label_bayes
            found["naive Bayes on relations and neighbours"] = simple.node_bayes
    found |= {"majority": simple.majority, "label vote of neighbours": simple.label_vote}
    if not isinstance(graph, Graph):
        options = Options(seed=options.seed, dropout=options.dropout, batch_size=options.batch_size)
        task = sage_task(graph.homogeneous(), options)
        with console.status("floors: GraphSAGE"):
            found["GraphSAGE, relations ignored"] = _accuracy(task, options)
    alone = dataclasses.replace(options, fanout=(), eval_fanout=(), epochs=_EPOCHS)
    with console.status("floors: features alone"):
        found["features alone"] = _accuracy(with_options(task, alone), alone)
    return found


def _accuracy(task: Task, options: Options) -> float:
    """Test accuracy of a network after training."""
    trainer = Trainer.create(task, options)
    state, done = trainer.initial, 0
    while done < options.epochs:
        state, epoch = trainer.train(state, done, lambda: None)
        done = epoch.epoch + 1
    return trainer.test(state)

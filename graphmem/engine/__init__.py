"""Training: tasks, the training loop, metrics, checkpoints, callbacks. Knows nothing of links or data sets.

A :class:`Task` brings the data, a :class:`Trainer` the loop::

    seed_everything(0)
    task, model = ...                                          # a Task and any nn.Module
    trainer = Trainer(
        model, task, torch.optim.Adam(model.parameters(), lr=0.01), epochs=100,
        monitor=[("valid", "hits@100"), ("valid", "mrr")],     # each metric selects an epoch, on validation
        checkpoint_dir="runs/cora", callbacks=[CSVLogger("runs/cora/log.csv")],
    )
    result = trainer.fit(resume=True)                          # goes on where a killed run was
    result.best["valid/hits@100"].metrics["test/hits@100"]     # the test number of the selected epoch

:class:`StreamPredictor` puts a trained temporal model beside a stream that goes on.
"""

from graphmem.engine.callbacks import (
    Callback,
    CSVLogger,
    JSONLLogger,
    LearningCurve,
    ProgressBar,
    TensorBoardLogger,
)
from graphmem.engine.checkpoint import load_checkpoint, save_checkpoint
from graphmem.engine.conformance import TaskContractError, check_task
from graphmem.engine.evaluation import evaluate, evaluating
from graphmem.engine.metrics import auc, average_precision, check_metrics, evaluate_scores, hits_at_k, mrr, ranks
from graphmem.engine.online import StreamPredictor
from graphmem.engine.result import BestEpoch, BestTracker, FitResult
from graphmem.engine.seeding import deterministic, preserve_rng, restore_rng_state, rng_state, seed_everything
from graphmem.engine.stepping import step_optimizer
from graphmem.engine.task import Task
from graphmem.engine.trainer import NonFiniteLossError, Trainer

__all__ = [
    "BestEpoch",
    "BestTracker",
    "CSVLogger",
    "Callback",
    "FitResult",
    "JSONLLogger",
    "LearningCurve",
    "NonFiniteLossError",
    "ProgressBar",
    "StreamPredictor",
    "Task",
    "TaskContractError",
    "TensorBoardLogger",
    "Trainer",
    "auc",
    "average_precision",
    "check_metrics",
    "check_task",
    "deterministic",
    "evaluate",
    "evaluate_scores",
    "evaluating",
    "hits_at_k",
    "load_checkpoint",
    "mrr",
    "preserve_rng",
    "ranks",
    "restore_rng_state",
    "rng_state",
    "save_checkpoint",
    "seed_everything",
    "step_optimizer",
]

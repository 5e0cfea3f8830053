"""Token windows: overlapping chunks to train on, and the fixed windows that every run is validated on.

The split is over systems: the last 20 % of the file validate, whatever else is set; training uses the first 80 %, or
the first `train_systems` of those.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import UsageError
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import Dataset
from lvjobs.forecasting.tokenizer import Characters
from lvjobs.study.training import TrainingConfig

IGNORED = -100
"""The label of what is not to be learnt; torch's and transformers' convention."""


@dataclass(frozen=True)
class Windows:
    """M windows of at most L tokens, padded on the right; all three are (M, L) int64.

    `labels` are the ids themselves where the loss counts and IGNORED elsewhere (a label is predicted from what precedes
    it); `attention` is 1 on tokens and 0 on padding.
    """

    ids: NDArray[np.int64]
    attention: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """How many windows."""
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> "Windows":
        """Those rows, without columns that are padding in all of them."""
        width = int(self.attention[rows].sum(axis=1).max())
        return Windows(self.ids[rows, :width], self.attention[rows, :width], self.labels[rows, :width])


def pad(rows: Sequence[NDArray[np.int64]], pad_id: int, unlearnt: Sequence[int]) -> Windows:
    """Windows of those rows of ids, of which the first `unlearnt` are context only."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
    attention, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
    for index, (row, context) in enumerate(zip(rows, unlearnt, strict=True)):
        ids[index, : len(row)] = row
        attention[index, : len(row)] = 1
        labels[index, context : len(row)] = row[context:]
    return Windows(ids, attention, labels)


def chunks(series: Sequence[NDArray[np.int64]], length: int, pad_id: int) -> Windows:
    """Chunks of `length` tokens of each series, overlapping by half; the last one may be shorter."""
    stride = length - length // 2
    rows = [row[start : start + length] for row in series for start in range(0, max(1, len(row) - length // 2), stride)]
    return pad(rows, pad_id, [0] * len(rows))


def split(systems: int, config: TrainingConfig) -> tuple[int, int]:
    """(how many systems train, from the first on; the index from which on they validate).

    Raises:
        UsageError: `train_systems` reaches into the validation systems.
    """
    first_validation = systems - max(1, systems // 5)
    train = config.train_systems or first_validation
    if train > first_validation:
        raise UsageError(
            f"train_systems = {train}, but only the first {first_validation} of {systems} systems may train: "
            f"the last 20 % validate"
        )
    return train, first_validation


def training_windows(data: Dataset, codec: Codec, table: Characters, config: TrainingConfig, pad_id: int) -> Windows:
    """Chunks of all steps of the training systems, scaled from their history."""
    train, _ = split(len(data.trajectories), config)
    rows = _tokens(data, codec, table, config, slice(train))
    return chunks(rows, config.context_length, pad_id)


def validation_windows(data: Dataset, codec: Codec, table: Characters, config: TrainingConfig, pad_id: int) -> Windows:
    """One window a validation system, the first `validation_limit` of them: history as context, loss over the horizon.

    They hang on the file and the codec alone, not on `context_length`, so that runs can be compared.
    """
    _, first = split(len(data.trajectories), config)
    wanted = slice(first, first + config.validation_limit)
    rows = _tokens(data, codec, table, config, wanted, config.history_steps + config.horizon_steps)
    context = [len(row) for row in _tokens(data, codec, table, config, wanted, config.history_steps)]
    return pad(rows, pad_id, context)


def _tokens(
    data: Dataset, codec: Codec, table: Characters, config: TrainingConfig, systems: slice, steps: int | None = None
) -> list[NDArray[np.int64]]:
    series = data.trajectories[systems].astype(np.float64)
    scale = codec.fit(series[:, : config.history_steps])
    return [table.encode(text) for text in codec.encode(series[:, :steps], scale)]

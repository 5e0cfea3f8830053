"""The free-running error of a model that is being trained: it forecasts validation systems, as an evaluation would."""

from typing import Any

import numpy as np
import torch

from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import Dataset
from lvjobs.forecasting.decode import Decoding, sample
from lvjobs.forecasting.splits import training_split
from lvjobs.forecasting.tokens import Characters, Prompts
from lvjobs.forecasting.windows import shared_scale
from lvjobs.study.params import TrainingConfig
from lvjobs.worker import Alone, Team

AT_ONCE = 20
"""The number of series forecast at once, as in an evaluation: a small training batch would take twice the time."""


class ValidationForecasts:
    """The first `validation_forecasts` validation systems: their histories, and what follows them."""

    def __init__(
        self, data: Dataset, codec: Codec, table: Characters, config: TrainingConfig, prompts: Prompts
    ) -> None:
        """Select the systems. The forecasts have the format and the scale of the training's own windows."""
        split = training_split(len(data.trajectories), config)
        series = data.trajectories[list(split.validating[: config.validation_forecasts])].astype(np.float64)
        self._history = series[:, : config.history_steps]
        self._truth = series[:, config.history_steps :][:, : config.horizon_steps]
        self._table, self._codec = table, codec
        self._scale = shared_scale(data, codec, config)
        batch = max(config.batch_size, AT_ONCE)
        self._decoding = Decoding(batch, config.head, prompt=prompts(config.horizon_steps))

    def __len__(self) -> int:
        return len(self._truth)

    @torch.no_grad()
    def error(self, model: Any, team: Team | None = None) -> float:
        """Return the mean absolute error of greedy forecasts, in original units. Nothing is drawn.

        Each rank of the team forecasts its share.

        Raises:
            LvjobsError: see `sample`.
        """
        team = team or Alone()
        model.eval()
        mine = slice(team.rank, None, team.size)
        history, truth = self._history[mine], self._truth[mine]
        sums = torch.zeros(2, dtype=torch.float64)
        if len(truth):
            made = sample(
                model,
                self._table,
                self._codec,
                history,
                truth.shape[1],
                scale=self._scale,
                decoding=self._decoding,
            )
            sums += torch.tensor([np.abs(made[0] - truth).sum(), truth.size], dtype=torch.float64)
        team.add_up(sums)
        return float(sums[0] / sums[1])

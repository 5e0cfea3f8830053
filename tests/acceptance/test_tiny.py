"""The bundled model on the study's own file, as it is shipped."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lvjobs.forecasting import baselines
from lvjobs.forecasting.codec import Codec
from lvjobs.forecasting.data import load_dataset
from lvjobs.forecasting.decode import Decoding, sample
from lvjobs.forecasting.metrics import score
from lvjobs.forecasting.models import load_base
from lvjobs.forecasting.tokens import Characters
from lvjobs.study.params import TrainingConfig

REAL = Path(__file__).parents[3] / "shared" / "data" / "lotka_volterra_data.h5"
SYSTEMS = 50
"""The last of 200 test systems: what they cost is 6 CPU seconds."""


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the study's real input is not part of the repository")
def test_it_is_ahead_of_a_vector_autoregression_before_it_is_fine_tuned():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, tokenizer = load_base(TrainingConfig(data=str(REAL)))
        series = load_dataset(REAL).trajectories[-SYSTEMS:].astype(np.float64)
        table = Characters(tokenizer, "tiny", Codec())
        made = sample(model, table, Codec(), series[:, :80], 20, decoding=Decoding(batch=50))[0]
    finally:
        torch.set_num_threads(threads)
    scores = score(series[:, 80:], made)
    known = score(series[:, 80:], baselines.forecast("var-8", series[:, :80], 20))["overall"]["mae"]
    assert scores["overall"]["mae"] < 0.9 * known
    assert (
        scores["intervals"]["mae"]["low"] < scores["overall"]["mae"] < scores["intervals"]["mae"]["high"] < 1.15 * known
    )

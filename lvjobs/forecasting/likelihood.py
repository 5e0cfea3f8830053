"""The likelihood of a truth: its negative log-likelihood under a model, teacher-forced, in one forward pass."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import STEP_SEPARATOR, Codec, Floats, Scale
from lvjobs.forecasting.decode import scale_of
from lvjobs.forecasting.head import numeric_head
from lvjobs.forecasting.tokens import RAW, Characters, Ids, Prompt


def negative_log_likelihood(
    model: Any,
    table: Characters,
    codec: Codec,
    history: Floats,
    truth: Floats,
    *,
    batch: int = 8,
    scale: Scale | None = None,
    prompt: Prompt = RAW,
) -> Floats:
    """Return the negative log-likelihood of each step of a truth, as text, after its history.

    It is normalised over the characters of a series, so that models and heads compare.

    It is that of the rounded values, separators included: a probability, not a density. For the density of the values
    themselves add log(unit 10^-decimals) for each, as LLMTime does.

    Args:
        model: A causal language model.
        table: Its characters.
        codec: The format of series.
        history: (series, steps, variables), original units.
        truth: (series, horizon, variables), original units: the steps that followed.
        batch: The number of series that go through the model at once.
        scale: Their scale; None fits it to each history.
        prompt: The tokens around the history.

    Returns:
        Nats, (series, horizon).

    Raises:
        LvjobsError: a series cannot be written; the logits are not finite.
    """
    scale = scale_of(codec, np.asarray(history, dtype=np.float64), scale)
    asked = [prompt.wrap(table.encode(text)) for text in codec.encode(history, scale)]
    answers = [table.encode(text) for text in codec.encode(truth, scale)]
    result = np.zeros(truth.shape[:2])
    with numeric_head(model, table.alphabet):
        for start in range(0, len(asked), batch):
            rows = slice(start, start + batch)
            result[rows] = _score(model, table, asked[rows], answers[rows], truth.shape[1])
    return result


@torch.inference_mode()
def _score(model: Any, table: Characters, asked: list[Ids], answers: list[Ids], horizon: int) -> NDArray[np.float64]:
    model.eval()
    device = next(model.parameters()).device
    width = max(len(question) + len(answer) for question, answer in zip(asked, answers, strict=True))
    # Padded on the right, where padding does not affect the tokens before it.
    ids = np.full((len(asked), width), int(table.alphabet[0]), dtype=np.int64)
    for row, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        ids[row, : len(question) + len(answer)] = np.concatenate([question, answer])
    kept = width - min(map(len, asked)) + 1
    logits = model(input_ids=torch.from_numpy(ids).to(device), logits_to_keep=kept).logits
    chances = torch.log_softmax(logits.float(), dim=-1).cpu()
    columns = np.full(int(table.ids.max()) + 1, -1)
    columns[table.alphabet] = np.arange(len(table.alphabet))
    result = np.zeros((len(asked), horizon))
    for row, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        first = len(question) - 1 - (width - kept)
        nats = -chances[row, first : first + len(answer)].double().numpy()[np.arange(len(answer)), columns[answer]]
        if not np.isfinite(nats).all():
            raise LvjobsError("the model's logits are not finite, so it has no likelihood; choose another run or model")
        ends = answer == int(table.ids[ord(STEP_SEPARATOR)])
        np.add.at(result[row], np.cumsum(ends) - ends, nats)
    return result

"""Forecasts: the model chooses among the characters that the grammar allows, so every forecast parses in full length.

Rows of a batch have one length, so that a forecast does not depend on the other series of its batch. Characters that
the grammar forces (points, separators) are not chosen by the model: they are fed together with the next choice, 119
calls for 200 characters. There is no repetition penalty.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.cache import new_cache
from lvjobs.forecasting.codec import ALPHABET, STEP_SEPARATOR, Codec, Floats, Scale
from lvjobs.forecasting.grammar import START, Grammar, Sampling, grammars
from lvjobs.forecasting.head import has_numeric_head, numeric_head
from lvjobs.forecasting.tokens import RAW, Characters, Ids, Prompt

Places = NDArray[np.int64]
"""Characters by their place in ALPHABET; -1 is none."""
LEAST_ROWS = 8
"""The least number of rows of every matrix product, filled up with copies.

With one to three rows CPU libraries use other kernels. A forecast would then depend, in the last bits of its logits, on
the number of rows.
"""
_FILLER = ALPHABET.index(STEP_SEPARATOR)
"""The character that a row gets after its end, while others continue; it is never read."""


@dataclass(frozen=True)
class Decoding:
    """The settings of forecasts.

    Attributes:
        batch: The number of rows (series times samples) that go through the model at once.
        head: "numeric" computes logits of the series' characters alone; the choices are the same.
        digits: Digits before the point that every forecast may have, whatever its history has.
        signed: Whether every forecast may be negative, even if its history is not.
        prompt: The tokens around the history.
    """

    batch: int = 50
    head: Literal["full", "numeric"] = "full"
    digits: int = 1
    signed: bool = False
    prompt: Prompt = field(default=RAW)


def sample(
    model: Any,
    table: Characters,
    codec: Codec,
    history: Floats,
    horizon: int,
    sampling: Sampling | None = None,
    *,
    scale: Scale | None = None,
    decoding: Decoding | None = None,
    numbers: Sequence[int] | None = None,
) -> Floats:
    """Forecast the next `horizon` steps of each series: draw samples, or choose greedily.

    Args:
        model: A causal language model, on any device.
        table: Its characters.
        codec: The format of series.
        history: (series, steps, variables), original units.
        horizon: The number of steps.
        sampling: Temperature, top_p, the number of samples, and the seed; None: one greedy forecast.
        scale: Their scale; None fits it to each history, and is an error for a codec with one scale for all.
        decoding: The details.
        numbers: Each series' own number, which seeds its random numbers (default: its place in `history`), so that a
            part of the series gets the same samples as all of them would.

    Returns:
        (samples, series, horizon, variables), original units.

    Raises:
        LvjobsError: the model's logits are not finite; a history cannot be written; the scale is missing.
    """
    history = np.asarray(history, dtype=np.float64)
    scale, decoding = scale_of(codec, history, scale), decoding or Decoding()
    numbers = range(len(history)) if numbers is None else numbers
    prompts = [decoding.prompt.wrap(table.encode(text)) for text in codec.encode(history, scale)]
    layouts = grammars(codec, scale.apply(history), decoding.digits, decoding.signed)
    samples = sampling.samples if sampling else 1
    texts = [[""] * len(prompts) for _ in range(samples)]
    for rows in _batches(prompts, layouts, max(1, decoding.batch // samples)):
        ids, grammar = [prompts[row] for row in rows], layouts[rows[0]]
        room = grammar.longest(horizon)
        uniforms = sampling.uniforms([numbers[row] for row in rows], room) if sampling else np.empty((0, room))
        with numeric_head(model, table.alphabet) if decoding.head == "numeric" else contextlib.nullcontext():
            written = _continue(model, table, grammar, ids, horizon * grammar.variables, sampling, uniforms)
        for index, places in enumerate(written):
            line = "".join([ALPHABET[place] for place in places.tolist() if place >= 0])
            texts[index % samples][rows[index // samples]] = line
    return np.stack([codec.decode(lines, scale) for lines in texts])


def scale_of(codec: Codec, history: Floats, scale: Scale | None) -> Scale:
    """Return the given scale, or the one of each history.

    Raises:
        LvjobsError: none was given, and the codec has one for all series, which is fitted to the training series.
    """
    if scale is None and codec.scaling == "global":
        raise LvjobsError('scaling = "global" is fitted to the series that train: a forecast must be given that scale')
    return codec.fit(history) if scale is None else scale


def _batches(prompts: Sequence[Ids], layouts: Sequence[Grammar], batch: int) -> Iterator[list[int]]:
    """Yield rows that form a batch: of one grammar and one length."""
    groups: dict[tuple[int, Grammar], list[int]] = {}
    for row, (prompt, layout) in enumerate(zip(prompts, layouts, strict=True)):
        groups.setdefault((len(prompt), layout), []).append(row)
    for rows in groups.values():
        yield from (rows[start : start + batch] for start in range(0, len(rows), batch))


def _choose(logits: Floats, allowed: NDArray[np.bool_], sampling: Sampling | None, uniforms: Floats) -> Places:
    """Return each row's next character, by the model's logits, among those allowed.

    Raises:
        LvjobsError: the logits are not finite.
    """
    if not np.isfinite(logits).all():
        raise LvjobsError(
            "the model's logits are not finite, and nothing can be forecast with it; choose another run or model"
        )
    if sampling is None:
        places: Places = np.where(allowed, logits, -np.inf).argmax(axis=1)
        return places
    return sampling.choose(logits, allowed, uniforms)


@torch.inference_mode()
def _continue(
    model: Any,
    table: Characters,
    grammar: Grammar,
    prompts: Sequence[Ids],
    values: int,
    sampling: Sampling | None,
    uniforms: Floats,
) -> Places:
    """Write `values` further values after each prompt: (prompts * samples, characters), -1 at the end.

    Samples of one prompt are adjacent; the prompt goes through the model once for all of them. `uniforms` has the
    random numbers of each of them, (prompts * samples, characters).
    """
    model.eval()
    samples = sampling.samples if sampling else 1
    reader = _Reader(model, table, prompts, grammar.longest(values // grammar.variables))
    logits = reader.begin(samples)
    rows = len(prompts) * samples
    state, left = np.full(rows, START), np.full(rows, values)
    written: list[Places] = []
    while True:
        places = _choose(logits, grammar.allowed[state], sampling, uniforms[:, len(written)])
        feed = []
        while True:
            done = left == 0
            written.append(np.where(done, -1, places))
            feed.append(np.where(done, _FILLER, places))
            state = np.where(done, START, grammar.next[state, feed[-1]])
            left = np.where(done, 0, left - grammar.ends[feed[-1]])
            if not left.any():
                return np.stack(written, axis=1)
            # Only characters that are forced in every row can be fed ahead: with one digit before the point, always.
            places = np.where(left == 0, _FILLER, grammar.forced[state])
            if (places < 0).any():
                break
        logits = reader.read(np.stack(feed, axis=1))


class _Reader:
    """A model that reads characters, and its cache; it returns the logits of ALPHABET for the next one."""

    def __init__(self, model: Any, table: Characters, prompts: Sequence[Ids], room: int) -> None:
        self.model, self.rows = model, len(prompts)
        self.device = next(model.parameters()).device
        self.alphabet = torch.from_numpy(table.alphabet).to(self.device)
        self.numeric = has_numeric_head(model, table.alphabet)
        self.prompts = torch.from_numpy(np.stack(prompts)).to(self.device)
        self.cache = new_cache(model, self.prompts.shape[1] + room)

    def begin(self, samples: int) -> Floats:
        """Read the prompts; return the logits after them, `samples` times each: (rows, characters)."""
        prompts = len(self.prompts)
        self.rows = prompts * samples
        logits = self._forward(self.prompts)
        chosen = np.repeat(np.arange(prompts), samples)
        chosen = np.concatenate([chosen, np.zeros(max(0, LEAST_ROWS - len(chosen)), dtype=np.int64)])
        if len(chosen) > prompts:
            indices = torch.from_numpy(chosen).to(self.device)
            for cache in self.cache.values():
                cache.batch_select_indices(indices)
        return logits[chosen[: self.rows]]

    def read(self, places: Places) -> Floats:
        """Read further characters, (rows, characters); return the logits after them."""
        copies = np.repeat(places[:1], max(0, LEAST_ROWS - len(places)), axis=0)
        ids = self.alphabet[torch.from_numpy(np.concatenate([places, copies])).to(self.device)]
        return self._forward(ids)[: self.rows]

    def _forward(self, ids: Tensor) -> Floats:
        logits = self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **self.cache).logits[:, -1]
        if not self.numeric:
            logits = logits[:, self.alphabet]
        values: Floats = logits.double().cpu().numpy()
        return values

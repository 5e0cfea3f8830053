"""Token windows: overlapping chunks to train on, their order, and the fixed windows that every run is validated on.

`splits.training_split` decides which systems train and which validate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError, UsageError
from lvjobs.forecasting.codec import STEP_SEPARATOR, Codec, Scale
from lvjobs.forecasting.data import Dataset
from lvjobs.forecasting.splits import training_split
from lvjobs.forecasting.tokens import Characters, Ids, Prompts, raw
from lvjobs.study.params import TrainingConfig

IGNORED = -100
"""The label of tokens that are not learnt; torch's and transformers' convention."""


@dataclass(frozen=True)
class Windows:
    """A set of M windows of at most L tokens, padded on the right; all arrays are (M, L) int64.

    `labels` are the ids themselves where the loss counts and IGNORED elsewhere (a label is predicted from what precedes
    it); `attention` is 1 on tokens and 0 on padding. If windows are packed, `positions` are each token's place in its
    own series; else they are None, and a token's place is its column.
    """

    ids: NDArray[np.int64]
    attention: NDArray[np.int64]
    labels: NDArray[np.int64]
    positions: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.ids)

    def take(self, rows: NDArray[np.int64], *, full: bool = False) -> "Windows":
        """Return those rows, without columns that are padding in all of them; `full`: as wide as all windows are."""
        width = self.ids.shape[1] if full else int(self.attention[rows].sum(axis=1).max())
        positions = None if self.positions is None else self.positions[rows, :width]
        return Windows(self.ids[rows, :width], self.attention[rows, :width], self.labels[rows, :width], positions)

    @property
    def tokens(self) -> int:
        """Return the number of tokens that are no padding."""
        return int(self.attention.sum())

    @property
    def learnt(self) -> int:
        """Return the number of labels that count: nothing precedes a window's first token, so nothing predicts it."""
        return int((self.labels[:, 1:] != IGNORED).sum())


def pad(rows: Sequence[Ids], pad_id: int, unlearnt: Sequence[int] | None = None) -> Windows:
    """Return windows of those rows of ids; the first `unlearnt` tokens of each (None: of none) are context only."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
    attention, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
    for index, (row, context) in enumerate(zip(rows, unlearnt or [0] * len(rows), strict=True)):
        ids[index, : len(row)] = row
        attention[index, : len(row)] = 1
        labels[index, context : len(row)] = row[context:]
    return Windows(ids, attention, labels)


def cut(series: Sequence[Ids], length: int) -> list[Ids]:
    """Cut each series into chunks of `length` tokens, overlapping by length // 2; the last one may be shorter."""
    stride = length - length // 2
    return [row[start : start + length] for row in series for start in range(0, max(1, len(row) - length // 2), stride)]


def pack(rows: Sequence[Ids], length: int, pad_id: int) -> Windows:
    """Join rows one behind the other, in windows of `length` tokens that are all full but the last.

    Positions restart with each row; a row that is cut by a window's end continues in the next window as a row of its
    own. No row's first token is learnt: what precedes it is another series. Given the positions and no attention mask,
    transformers (5.0 and later, sdpa and flash attention) lets no row see another; a model with an attention of its own
    would see the rows before, and should not be packed.
    """
    stream = np.concatenate(list(rows))
    starts = np.zeros(-(-len(stream) // length) * length, dtype=bool)
    starts[np.cumsum([0, *map(len, rows[:-1])])] = True
    starts[::length] = True
    starts[len(stream) :] = True  # padding is isolated from all tokens
    index = np.arange(len(starts))
    positions = index - np.maximum.accumulate(np.where(starts, index, 0))
    ids = np.full(len(starts), pad_id, dtype=np.int64)
    ids[: len(stream)] = stream
    return Windows(
        ids.reshape(-1, length),
        (index < len(stream)).astype(np.int64).reshape(-1, length),
        np.where(starts, IGNORED, ids).reshape(-1, length),
        positions.reshape(-1, length),
    )


def examples(
    series: Sequence[Ids], table: Characters, config: TrainingConfig, prompts: Prompts, pad_id: int
) -> Windows:
    """Return questions and answers of at most `context_length` tokens: whole steps, of which the last are the answer.

    An answer has the horizon's share of the steps; it is all that is learnt, with the token that ends it. The next
    example of a series begins half of the steps later.

    Raises:
        UsageError: the instruction leaves no room for two steps.
    """
    separator = int(table.ids[ord(STEP_SEPARATOR)])
    share = config.horizon_steps / (config.history_steps + config.horizon_steps)
    rows, unlearnt = [], []
    for row in series:
        ends = np.concatenate([[0], np.flatnonzero(row == separator) + 1])
        start = 0
        while start == 0 or ends[start] < ends[-1]:
            # As many steps as fit beside the longest instruction: others differ only in the number they name.
            room = config.context_length - prompts(config.horizon_steps).length
            steps = int(np.searchsorted(ends, ends[start] + room, side="right")) - 1 - start
            if steps < 2:  # noqa: PLR2004 - one to read, one to answer
                if start:
                    break
                raise UsageError(
                    f'context_length = {config.context_length} leaves no room for two steps: format = "instruct" '
                    f"adds {prompts(config.horizon_steps).length} tokens; give it more"
                )
            answer = max(1, round(steps * share))
            prompt, asked = prompts(answer), ends[start + steps - answer]
            question = prompt.wrap(row[ends[start] : asked])
            rows.append(np.concatenate([question, row[asked : ends[start + steps]], prompt.end]))
            unlearnt.append(len(question))
            if start + steps == len(ends) - 1:
                break
            start += max(1, steps // 2)
    return pad(rows, pad_id, unlearnt)


def codec_of(config: TrainingConfig) -> Codec:
    """Return the codec of a configuration."""
    return Codec(
        config.decimals,
        config.scale_target,
        config.scale_alpha,
        config.scale_beta,
        config.scaling,
        config.scale_power,
    )


def shared_scale(data: Dataset, codec: Codec, config: TrainingConfig) -> Scale | None:
    """Return the one scale of all series, from the histories of those that train; None if each has its own."""
    if codec.scaling == "series":
        return None
    train = training_split(len(data.trajectories), config).train
    return codec.fit(data.trajectories[list(train), : config.history_steps].astype(np.float64))


def training_windows(
    data: Dataset, codec: Codec, table: Characters, config: TrainingConfig, pad_id: int, prompts: Prompts = raw
) -> Windows:
    """Return windows of all steps of the training systems, scaled by their history.

    They are chunks, packed chunks, or examples, by `packing` and `format`.
    """
    train = training_split(len(data.trajectories), config).train
    rows = _tokens(data, codec, table, config, train)
    if config.format == "instruct":
        return examples(rows, table, config, prompts, pad_id)
    chunks = cut(rows, config.context_length)
    return pack(chunks, config.context_length, pad_id) if config.packing else pad(chunks, pad_id)


def validation_windows(
    data: Dataset, codec: Codec, table: Characters, config: TrainingConfig, pad_id: int, prompts: Prompts = raw
) -> Windows:
    """Return a window per validation system, at most `validation_limit`: history as context, loss over the horizon.

    They depend on the file, `validation_systems`, the codec and the prompt alone, not on `context_length` or the number
    of training systems, so that runs can be compared.
    """
    wanted = training_split(len(data.trajectories), config).validating[: config.validation_limit]
    rows = _tokens(data, codec, table, config, wanted, config.history_steps + config.horizon_steps)
    context = [len(row) for row in _tokens(data, codec, table, config, wanted, config.history_steps)]
    prompt = prompts(config.horizon_steps)
    questions = [prompt.wrap(row[:length]) for row, length in zip(rows, context, strict=True)]
    whole = [np.concatenate([q, row[n:]]) for q, row, n in zip(questions, rows, context, strict=True)]
    return pad(whole, pad_id, [len(question) for question in questions])


def numeric_labels(windows: Windows, table: Characters) -> Windows:
    """Return windows for a numeric head: labels are places in ALPHABET, other tokens are not learnt."""
    places = np.full(int(max(windows.labels.max(), table.alphabet.max())) + 1, IGNORED, dtype=np.int64)
    places[table.alphabet] = np.arange(len(table.alphabet))
    labels = np.where(windows.labels >= 0, places[np.maximum(windows.labels, 0)], IGNORED)
    return Windows(windows.ids, windows.attention, labels, windows.positions)


def _tokens(
    data: Dataset,
    codec: Codec,
    table: Characters,
    config: TrainingConfig,
    systems: Sequence[int],
    steps: int | None = None,
) -> list[Ids]:
    series = data.trajectories[list(systems)].astype(np.float64)
    scale = shared_scale(data, codec, config) or codec.fit(series[:, : config.history_steps])
    return [table.encode(text) for text in codec.encode(series[:, :steps], scale)]


class WindowOrder:
    """An endless stream of batches of window indices, shuffled anew each epoch from a generator of its own.

    Its whole state is the number of drawn indices.
    """

    def __init__(self, windows: int, batch: int, seed: int) -> None:
        """Begin an order over `windows` windows, `batch` at a time; a batch may span two epochs."""
        self.windows, self.batch, self.seed = windows, batch, seed
        self.drawn = 0
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def next(self) -> NDArray[np.int64]:
        """Return the next batch's indices, (batch,)."""
        batch = np.array([self._at(index) for index in range(self.drawn, self.drawn + self.batch)])
        self.drawn += self.batch
        return batch

    def _at(self, index: int) -> int:
        epoch, place = divmod(index, self.windows)
        if self._epoch[0] != epoch:
            self._epoch = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.windows)
        return int(self._epoch[1][place])

    def state(self) -> dict[str, int]:
        """Return the position, with the settings of the order."""
        return {"drawn": self.drawn, "windows": self.windows, "batch": self.batch, "seed": self.seed}

    _KEYS = ("windows", "batch", "seed")

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Return whether a saved position is one in this order."""
        return all(state[key] == getattr(self, key) for key in self._KEYS)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved position.

        Raises:
            LvjobsError: it is a position in another order.
        """
        for key in self._KEYS:
            if state[key] != getattr(self, key):
                raise LvjobsError(
                    f"the checkpoint counts {key} = {state[key]}, this run {getattr(self, key)}; submit a new run"
                )
        self.drawn = int(state["drawn"])

"""Greedy forecasts: the model chooses the digits, the codec's layout the rest, so that every forecast parses.

Every value is written with one digit before the point, the codec's usual range: nothing can leave it.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError
from lvjobs.forecasting.codec import STEP_SEPARATOR, VALUE_SEPARATOR, Codec, Floats
from lvjobs.forecasting.tokenizer import Characters


def forecast(model: Any, table: Characters, codec: Codec, history: Floats, horizon: int, batch: int = 50) -> Floats:
    """The next `horizon` steps of each series.

    Args:
        model: A causal language model, on any device.
        table: Its characters.
        codec: How series are written.
        history: (series, steps, variables), original units.
        horizon: How many steps.
        batch: How many series go through the model at once.

    Returns:
        (series, horizon, variables), original units.
    """
    scale = codec.fit(history)
    texts = codec.encode(history, scale)
    by_length: dict[int, list[int]] = {}  # rows of one batch must have one length: padding would shift positions
    for index, text in enumerate(texts):
        by_length.setdefault(len(text), []).append(index)
    result: list[str] = [""] * len(texts)
    for same in by_length.values():
        for start in range(0, len(same), batch):
            rows = same[start : start + batch]
            ids = np.stack([table.encode(texts[row]) for row in rows])
            written = _continue(model, table, codec, ids, horizon * history.shape[-1], history.shape[-1])
            for row, line in zip(rows, written, strict=True):
                result[row] = table.decode(line)
    return codec.decode(result, scale)


@torch.inference_mode()
def _continue(
    model: Any, table: Characters, codec: Codec, ids: NDArray[np.int64], values: int, variables: int
) -> NDArray[np.int64]:
    """Token ids of that many further values, after prompts of one length: (rows, tokens)."""
    model.eval()
    device = next(model.parameters()).device
    digits = torch.from_numpy(table.encode("0123456789")).to(device)
    feed = torch.from_numpy(ids).to(device)
    written: list[torch.Tensor] = []
    reuse = _cache(model)
    for layout in _layouts(codec, values, variables):
        for character in layout:
            if character == "#":
                output = model(input_ids=feed, use_cache=True, logits_to_keep=1, **reuse)
                if not torch.isfinite(logits := output.logits[:, -1]).all():
                    raise LvjobsError("the model's logits are not finite: nothing can be forecast with it")
                feed = digits[logits[:, digits].argmax(-1)][:, None]
                written.append(feed)
            else:  # not the model's to choose: fed together with the next digit
                forced = torch.full((len(ids), 1), int(table.ids[ord(character)]), device=device)
                written.append(forced)
                feed = torch.cat([feed, forced], dim=1)
    tokens: NDArray[np.int64] = torch.cat(written, dim=1).cpu().numpy()
    return tokens


def _cache(model: Any) -> dict[str, Any]:
    """An empty key-value cache, filled in place, under the name by which this version of transformers takes it."""
    import transformers

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"
    return {name: transformers.DynamicCache(config=base.config)}


def _layouts(codec: Codec, values: int, variables: int) -> Sequence[str]:
    """How each value is laid out, `#` for a digit: `#.##,` and `#.##;`."""
    number = "#." + "#" * codec.decimals
    return [number + (VALUE_SEPARATOR if (index + 1) % variables else STEP_SEPARATOR) for index in range(values)]

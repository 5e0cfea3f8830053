"""The key-value cache of decoding, filled in place: transformers' own copies its whole content at each token.

For 50 series of 1,000 tokens through `tiny` these copies are 300 MB per token, a good part of the time.
"""

import functools
import inspect
from typing import Any

import torch
from torch import Tensor


def new_cache(model: Any, room: int) -> dict[str, Any]:
    """Return an empty cache for `room` tokens per row, under the argument name of this version of transformers.

    Layers that do not attend to everything (sliding windows, linear attention) keep transformers' own cache.
    """
    import transformers
    from transformers.cache_utils import DynamicLayer

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"
    cache: Any = transformers.DynamicCache(config=base.config)
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[index] = _in_place()(room)
    return {name: cache}


@functools.cache
def _in_place() -> Any:
    """Return the layer's class, made here because transformers is imported late."""
    from transformers.cache_utils import DynamicLayer

    parent: Any = DynamicLayer

    class InPlace(parent):  # type: ignore[misc]
        """One layer's keys and values, (rows, heads, tokens, width): views of buffers with spare room."""

        def __init__(self, room: int) -> None:
            super().__init__()
            self.room = room
            self.buffers: list[Tensor] = []
            self.keys: Any = None
            self.values: Any = None

        def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            """Append keys and values, and return all that are held."""
            held = self.keys.shape[-2] if self.is_initialized else 0
            if not self.is_initialized:
                self.lazy_initialization(keys, values)
                self.buffers = [self._buffer(keys), self._buffer(values)]
            until = held + keys.shape[-2]
            if until > self.room:
                raise ValueError(f"{until} tokens for a cache of {self.room}")
            for buffer, new in zip(self.buffers, (keys, values), strict=True):
                buffer[:, :, held:until] = new
            self.keys, self.values = (buffer[:, :, :until] for buffer in self.buffers)
            return self.keys, self.values

        def batch_select_indices(self, indices: Tensor) -> None:
            """Select rows, in this order; a row may be repeated."""
            if not self.is_initialized:  # a layer that the model does not use
                return
            held = self.keys.shape[-2]
            for place, old in enumerate((self.keys, self.values)):
                chosen = old[indices]
                self.buffers[place] = self._buffer(chosen)
                self.buffers[place][:, :, :held] = chosen
            self.keys, self.values = (buffer[:, :, :held] for buffer in self.buffers)

        def _buffer(self, like: Tensor) -> Tensor:
            rows, heads, _, width = like.shape
            return torch.empty((rows, heads, self.room, width), dtype=like.dtype, device=like.device)

    return InPlace

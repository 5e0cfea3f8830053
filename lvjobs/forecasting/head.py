"""The numeric head: a language model whose output covers the characters of a series alone.

Under constrained decoding only those tokens can be chosen, so a loss and a decoder over them alone are exact. They save
the matrix product over the whole vocabulary (14 rows instead of Qwen2.5's 151,936). Its loss is another objective than
that of the full softmax, and is never compared with it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lvjobs.errors import LvjobsError


def take_numeric_head(model: Any, ids: NDArray[np.int64]) -> Any:
    """Replace the model's head by its rows of those token ids, frozen; return the old head.

    The logits are then those of `ids`, in their order: (rows, tokens, len(ids)). The model still reads all token ids.

    Raises:
        LvjobsError: the head is quantised or has an adapter, so that rows cannot be taken from it.
    """
    full = model.get_output_embeddings()
    if type(full) is not torch.nn.Linear:
        raise LvjobsError(f'head = "numeric" needs a plain linear head, not {type(full).__name__}; use head = "full"')
    rows = torch.from_numpy(ids).to(full.weight.device)
    with torch.device("meta"):  # the weights are set just below: none are drawn, so no generator advances
        numeric = torch.nn.Linear(full.in_features, len(ids), bias=full.bias is not None)
    numeric.weight = torch.nn.Parameter(full.weight.detach()[rows].clone(), requires_grad=False)
    if full.bias is not None:
        numeric.bias = torch.nn.Parameter(full.bias.detach()[rows].clone(), requires_grad=False)
    model.set_output_embeddings(numeric)
    return full


@contextlib.contextmanager
def numeric_head(model: Any, ids: NDArray[np.int64]) -> Iterator[None]:
    """Give the model a numeric head for the duration of the block; a model that has one keeps it.

    Raises:
        LvjobsError: as `take_numeric_head`.
    """
    if has_numeric_head(model, ids):
        yield
        return
    full = take_numeric_head(model, ids)
    try:
        yield
    finally:
        model.set_output_embeddings(full)


def has_numeric_head(model: Any, ids: NDArray[np.int64]) -> bool:
    """Return whether the model's output covers `ids` alone."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return getattr(head, "out_features", None) == len(ids) and model.config.vocab_size != len(ids)

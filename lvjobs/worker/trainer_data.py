"""The random draws of a Hugging Face Trainer's data, separated from the draws of its model.

A Trainer that resumes skips the batches that were trained on already. The draws for their order, masks and
augmentations are skipped too, so other batches would follow than in an undisturbed run. Here each batch draws by its
epoch and its examples alone, wherever the training began and whichever process fetches it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from transformers import Trainer

from lvjobs.worker import determinism


class Stream:
    """Generators that are active while the stream is entered, and continue where they were when it is entered again."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256(repr(key).encode()).digest()
        self._seed = int.from_bytes(digest[:8], "big") >> 1
        self._inside: Mapping[str, Any] | None = None
        self._outside: Mapping[str, Any] = {}

    def seed(self) -> None:
        """Seed the generators for good."""
        determinism.seed_generators(self._seed)

    def __enter__(self) -> None:
        self._outside = determinism.capture_rng()
        if self._inside is None:
            self.seed()
        else:
            determinism.restore_rng(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = determinism.capture_rng()
        determinism.restore_rng(self._outside)


class BatchOrder:
    """The indices of each batch, in the order in which the Trainer's own sampler draws them."""

    def __init__(self, batches: Any, seed: int) -> None:
        self.batch_size: int | None = getattr(batches, "batch_size", None)
        self.drop_last: bool = getattr(batches, "drop_last", False)
        self.epoch = 0
        self._batches = batches
        self._seed = seed

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        _set_epoch(self._batches, self.epoch)
        _set_epoch(getattr(self._batches, "sampler", None), self.epoch)
        stream = Stream(self._seed, "order", self.epoch)
        drawn = iter(self._batches)
        while True:
            with stream:
                batch = next(drawn, None)
            if batch is None:
                return
            yield batch


class Batches(Dataset[Any]):
    """The examples of a dataset, each batch fetched and collated with random numbers of its own."""

    def __init__(self, examples: Any, collate: Callable[[Any], Any], seed: int) -> None:
        self.epoch = 0
        self._examples = examples
        self._collate = collate
        self._seed = seed

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        return self._examples[index]

    def __getitems__(self, indices: Sequence[Any]) -> Any:
        stream = Stream(self._seed, "batch", self.epoch, list(indices))
        if get_worker_info() is not None:  # nothing else draws in a worker process, and it has no CUDA to query
            stream.seed()
            return self._fetch(indices)
        with stream:
            return self._fetch(indices)

    def _fetch(self, indices: Sequence[Any]) -> Any:
        if hasattr(self._examples, "__getitems__"):
            return self._collate(self._examples.__getitems__(indices))
        return self._collate([self._examples[index] for index in indices])

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to the dataset itself."""
        _set_epoch(self._examples, epoch)


def _set_epoch(each: Any, epoch: int) -> None:
    if hasattr(each, "set_epoch"):
        each.set_epoch(epoch)


def _unchanged(batch: Any) -> Any:
    return batch


class Draws:
    """The wrapper that separates the draws of a Trainer's training data; `begin` sets the epoch.

    An IterableDataset is left as it is: it keeps its own position, and has to yield the same every time.
    """

    def __init__(self, trainer: Trainer, seed: int) -> None:
        self._seed = seed
        self._order: BatchOrder | None = None
        self._batches: Batches | None = None
        self._prepare: Any = trainer.accelerator.prepare
        self._made = trainer.get_train_dataloader
        trainer.get_train_dataloader = self._loader  # type: ignore[method-assign]

    def begin(self, epoch: int) -> None:
        """Set the epoch. Call it before the epoch's first batch is drawn."""
        if self._order is not None and self._batches is not None:
            self._order.epoch = self._batches.epoch = epoch

    def _loader(self) -> Any:
        with Stream(self._seed, "loader"):  # accelerate seeds the sampler by torch's last seed
            loader = self._made()
        if getattr(loader, "batch_sampler", None) is None or isinstance(loader.dataset, IterableDataset):
            return loader
        self._order = BatchOrder(loader.batch_sampler, self._seed)
        self._batches = Batches(loader.dataset, loader.collate_fn, self._seed)
        return self._prepare(
            DataLoader(
                self._batches,
                batch_sampler=self._order,
                collate_fn=_unchanged,
                num_workers=loader.num_workers,
                pin_memory=loader.pin_memory,
                timeout=loader.timeout,
                worker_init_fn=loader.worker_init_fn,
                multiprocessing_context=loader.multiprocessing_context,
                prefetch_factor=loader.prefetch_factor,
            )
        )

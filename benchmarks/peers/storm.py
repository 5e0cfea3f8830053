"""What the peers of benchmarks/storm.py run in a job: the same model, adapter, windows and rates, three ways to resume.

    python benchmarks/peers/storm.py (submit | hf | lightning) ROOT [NUMBER]

`submit` sends all runs off through submitit; the others train the run of that number. In its directory each leaves a
line for every step that the optimizer made (`executed`), flushed as a journal is, and `done` when it has its result.
"""

from __future__ import annotations  # submitit's pickles know no names that are used in annotations alone

import json
import signal
import sys
from pathlib import Path
from typing import Any

RATE = 1e-3


class Place:
    """One run: what was asked (ROOT/options.json), its directory, and how far it is."""

    def __init__(self, root: Path, number: int) -> None:
        self.options: dict[str, Any] = json.loads((root / "options.json").read_text(encoding="utf-8"))
        self.directory = root / str(number)
        self.directory.mkdir(exist_ok=True)
        self.executed = 0  # steps of this process
        self._lines = (self.directory / "executed").open("a", encoding="utf-8")

    @property
    def is_done(self) -> bool:
        """Whether its result is there; Slurm may run a finished job once more."""
        return (self.directory / "done").exists()

    def note(self, step: int) -> None:
        """A step was made."""
        self.executed += 1
        self._lines.write(f"{step}\n")
        self._lines.flush()

    def finish(self, step: int, model: Any) -> None:
        """Keep the result if this was the last step."""
        if step >= self.options["steps"]:
            model.save_pretrained(self.directory / "result")
            (self.directory / "done").touch()


def adapted(options: dict[str, Any]) -> Any:
    """The base model with a fresh adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(options["model"], dtype=torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=4, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
    return get_peft_model(base, lora)


def windows(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that lvjobs trains on."""
    import numpy as np
    import torch

    with np.load(options["windows"]) as stored:
        columns = {name: torch.from_numpy(stored[name]) for name in ("input_ids", "attention_mask", "labels")}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def hf_trainer(place: Place, *, just_in_time: bool) -> Any:
    """HF Trainer; `just_in_time`: it saves when it gets SIGTERM, at the end of the step."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_jit_checkpoint import JITCheckpointCallback

    class Noting(TrainerCallback):
        def on_step_end(self, _args: Any, state: Any, _control: Any, **_rest: Any) -> None:
            place.note(state.global_step)

    arguments = TrainingArguments(
        output_dir=str(place.directory / "trainer"), max_steps=place.options["steps"], per_device_train_batch_size=1,
        learning_rate=RATE, lr_scheduler_type="cosine", save_strategy="steps", save_steps=place.options["save_every"],
        save_total_limit=2, logging_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False, enable_jit_checkpoint=just_in_time,
    )  # fmt: skip
    trainer = Trainer(adapted(place.options), arguments, train_dataset=windows(place.options), callbacks=[Noting()])
    trainer.remove_callback(PrinterCallback)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, JITCheckpointCallback):
            callback.jit_manager.kill_wait = 0  # it would train on for 3 s first
    return trainer


def newest_checkpoint(place: Place) -> str | None:
    """HF Trainer's newest that is whole: it writes in place, trainer_state.json last, and marks those made in haste."""
    whole = [
        path.parent
        for path in (place.directory / "trainer").glob("checkpoint-*/trainer_state.json")
        if not (path.parent / "checkpoint-is-incomplete.txt").exists()
    ]
    return str(max(whole, key=lambda path: int(path.name.partition("-")[2]))) if whole else None


def train_hf(place: Place) -> None:
    """A plain job's training: saves every so often and at SIGTERM, resumes from the newest checkpoint."""
    trainer = hf_trainer(place, just_in_time=True)
    trainer.train(resume_from_checkpoint=newest_checkpoint(place))
    place.finish(trainer.state.global_step, trainer.model)


class Training:
    """A checkpointable callable, as submitit's manual has it: `checkpoint` saves, and is sent off again."""

    def __init__(self, root: Path, number: int) -> None:
        self.root, self.number = root, number
        self.place: Place | None = None
        self.trainer: Any = None

    def __call__(self) -> None:
        """Train to the end, from the newest checkpoint."""
        self.place = Place(self.root, self.number)
        if not self.place.is_done:
            self.trainer = hf_trainer(self.place, just_in_time=False)
            self.trainer.train(resume_from_checkpoint=newest_checkpoint(self.place))
            self.place.finish(self.trainer.state.global_step, self.trainer.model)

    def checkpoint(self) -> Any:
        """Called in the handler of the signal, wherever the training is."""
        import submitit

        if self.place is not None and self.place.executed:
            self.trainer._save_checkpoint(self.trainer.model, trial=None)  # noqa: SLF001 - there is no public way
        return submitit.helpers.DelayedSubmission(Training(self.root, self.number))


def submit(root: Path) -> None:
    """All runs as one array of submitit's."""
    import submitit

    executor = submitit.AutoExecutor(folder=root / "submitit", cluster="slurm")
    executor.update_parameters(
        slurm_partition="low", slurm_time=60, slurm_gres="gpu:1", cpus_per_task=1, slurm_mem="2G",
        slurm_array_parallelism=1000, slurm_signal_delay_s=30,
    )  # fmt: skip
    runs = json.loads((root / "options.json").read_text(encoding="utf-8"))["runs"]
    with executor.batch():
        for number in range(runs):
            executor.submit(Training(root, number))


def train_lightning(place: Place) -> None:
    """Lightning with its own requeueing; resumes from the newest of its checkpoints, whichever part of it saved it."""
    import lightning.pytorch as lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    steps = place.options["steps"]

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = adapted(place.options)

        def training_step(self, batch: Any) -> Any:
            return self.model(**batch).loss

        def on_train_batch_end(self, *_rest: Any) -> None:
            place.note(self.global_step)

        def configure_optimizers(self) -> Any:
            learning = [weights for weights in self.parameters() if weights.requires_grad]
            optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.0)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    environment = SLURMEnvironment(requeue_signal=getattr(signal, f"SIG{place.options['signals']['lightning']}"))
    saving = ModelCheckpoint(place.directory, every_n_train_steps=place.options["save_every"], save_top_k=-1)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, default_root_dir=place.directory,
        plugins=[environment], callbacks=[saving], gradient_clip_val=1.0, logger=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    module = Module()
    data = torch.utils.data.DataLoader(windows(place.options), batch_size=1, shuffle=True)
    saved = sorted(place.directory.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    trainer.fit(module, data, ckpt_path=saved[-1] if saved else None)
    place.finish(trainer.global_step, module.model)


def main() -> None:
    """Do what is asked."""
    what, root = sys.argv[1], Path(sys.argv[2])
    if what == "submit":
        submit(root)
    elif not (place := Place(root, int(sys.argv[3]))).is_done:
        {"hf": train_hf, "lightning": train_lightning}[what](place)


if __name__ == "__main__":
    main()

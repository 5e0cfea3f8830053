"""The `measured` convention: what torch's FlopCounterMode counts when the step runs, on meta tensors.

Nothing is computed and no memory is used: meta tensors have only shapes. The counter counts matmuls, 2 m n p each, and
nothing else; parts without a number are 0 here. Three pitfalls are the reason for this setup:

* On a CPU, attention runs as one fused operation that counts as 0. On meta tensors it is split into matmuls.
* 4-bit layers multiply inside bitsandbytes, which the counter does not see: the model is measured unquantised.
* The counts per module mix forward and backward: they are read from a forward pass only.

torch, transformers and peft are imported only when something is measured.
"""

import warnings
from typing import Any

from lvjobs.errors import UsageError
from lvjobs.flops.architecture import Architecture
from lvjobs.flops.workload import Counts, Forward, Workload, counts, generation


def count(workload: Workload) -> Counts:
    """Return what torch counts; takes seconds.

    With gradient checkpointing, gradients reach the embeddings' output, as with PEFT.

    Raises:
        UsageError: torch cannot run this shape.
    """
    import torch

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore", FutureWarning)  # peft and transformers deprecate names that the other uses
        try:
            model = _model(workload)
            one = _forward(model, workload)
            step = one.total if workload.inference else _step(model, workload)
            forecast = generation(workload, lambda new, keys: _continuation(model, new, keys))
        except (RuntimeError, ValueError, OverflowError) as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(
                f"torch cannot measure this ({reason}); choose another --convention, such as exact"
            ) from error
    return counts(workload, one, step - one.total, forecast)


def model_of(shape: Architecture, **changes: Any) -> Any:
    """Return an untrained model of this shape; `changes` to its configuration in transformers."""
    import transformers

    settings = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.intermediate,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
        "attn_implementation": "sdpa",
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config = transformers.AutoConfig.for_model(shape.family, **{**settings, **changes})
    return transformers.AutoModelForCausalLM.from_config(config)


def _model(workload: Workload) -> Any:
    """Return the model without weights, with its adapters."""
    import logging

    import torch

    shape = workload.shape
    model = model_of(shape)
    if workload.numeric_head is not None:
        model.lm_head = torch.nn.Linear(shape.width, workload.numeric_head, bias=False)
    if workload.lora_rank:
        # bitsandbytes, which peft imports, warns on a machine without a GPU about kernels that are not needed here.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        from peft import LoraConfig, get_peft_model

        targets = [linear.name for linear in workload.adapted]
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=workload.lora_rank, target_modules=targets))
    return model


def _forward(model: Any, workload: Workload) -> Forward:
    """Measure a forward pass by the modules of the first layer: all layers are alike."""
    import torch

    model.eval()
    with torch.no_grad():
        by_module = _counted(lambda: _logits(model, workload.batch, workload.length))

    def flops(end: str) -> int:
        return sum(count for name, count in by_module.items() if name.endswith(end))

    def adapters(part: str) -> int:
        inside = (name for name in by_module if f"layers.0.{part}." in name and ".lora_" in name)
        return sum(by_module[name] for name in inside)

    of_attention, of_mlp = adapters("self_attn"), adapters("mlp")
    return Forward(
        layers=workload.shape.layers,
        embedding=0,
        attention=flops("layers.0.self_attn") - of_attention,
        mlp=flops("layers.0.mlp") - of_mlp,
        norm=0,
        residual=0,
        head=flops("lm_head"),
        lora=of_attention + of_mlp,
    )


def _step(model: Any, workload: Workload) -> int:
    """Count forward and backward, without a loss: its gradient is all ones."""
    model.train()
    if workload.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if workload.lora_rank:
            model.enable_input_require_grads()  # newer versions of transformers do this themselves

    def run() -> None:
        _logits(model, workload.batch, workload.length).sum().backward()

    total = _counted(run)["Global"]
    if workload.gradient_checkpointing:
        model.gradient_checkpointing_disable()
    return total


def _continuation(model: Any, new: int, keys: int) -> int:
    """Count one sequence: the last `new` of `keys` tokens, with the others in the cache; logits of the last only."""
    import torch
    import transformers

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    cache = transformers.DynamicCache(config=base.config)
    model.eval()
    with torch.no_grad():
        if keys > new:
            _logits(model, 1, keys - new, past_key_values=cache, use_cache=True, logits_to_keep=1)
        options = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
        return _counted(lambda: _logits(model, 1, new, keys, **options))["Global"]


def _logits(model: Any, batch: int, new: int, keys: int | None = None, **options: Any) -> Any:
    import torch

    # An explicit mask: otherwise transformers would read the tokens' values, and meta tensors have none.
    mask = torch.ones(batch, 1, new, new if keys is None else keys, dtype=torch.bool)
    ids = torch.zeros(batch, new, dtype=torch.long)
    return model(input_ids=ids, attention_mask=mask, **({"use_cache": False} | options)).logits


def _counted(run: Any) -> dict[str, int]:
    """Return FLOPs by the module's dotted name; `Global` has the total."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    result = {name: sum(by_operation.values()) for name, by_operation in counter.get_flop_counts().items()}
    return {"Global": 0, **result}

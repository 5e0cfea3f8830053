"""Base models and their adapters: loaded offline, frozen, adapted by LoRA (Hu et al., 2021, arXiv:2106.09685).

Nothing here uses the network: a job's node may have none. Layers may be compiled by torch.compile: the same weights
under the same names, by other kernels.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.flops.architecture import DEFAULT_FAMILY, FAMILIES, LoraTargets
from lvjobs.forecasting.base_weights import BaseWeights, check_base, sha256_of_weights, write_base
from lvjobs.forecasting.hub import NO_HUB_ID, TINY, TINY_DIRECTORY, is_hub_id, whole
from lvjobs.study.params import TrainingConfig
from lvjobs.worker import shielded

_REPLACE = "restore it from a copy, or name another"


class AdapterMismatch(LvjobsError):
    """An adapter's files that do not hold exactly the weights of this model's adapter."""


def load_base(config: TrainingConfig) -> tuple[Any, Any]:
    """Load the base model, frozen, on the GPU if there is one, and its tokenizer.

    The model's attribute `base_weights` says which weights these are: its adapter is saved and loaded with them.

    Raises:
        LvjobsError: the model is not on this machine, or transformers cannot load it.
    """
    transformers = offline_transformers()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    options: dict[str, Any] = {"dtype": torch.bfloat16 if config.precision == "bf16" else torch.float32}
    # By itself on a GPU alone, and not for `tiny`, which is too small to gain anything.
    is_quantized = config.quantization == "nf4" or (
        config.quantization == "auto" and device.type == "cuda" and config.model != TINY
    )
    _import_peft(with_bitsandbytes=is_quantized)
    if is_quantized:
        nf4 = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=options["dtype"],
        )
        options |= {"quantization_config": nf4, "device_map": {"": device}}
    tokenizer = load_tokenizer(config.model)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            _source(config.model), local_files_only=True, use_safetensors=True, attn_implementation="sdpa", **options
        )
    except (OSError, ValueError) as error:
        raise _unloadable(config.model, error) from error
    if is_quantized:
        _keep_unpacked(model)
    else:
        model = model.to(device)
    model.config.use_cache = False  # training does not use it; decoding requests it itself
    model.base_weights = BaseWeights(config.model, sha256_of_weights(whole(config.model)))
    return model.requires_grad_(requires_grad=False), tokenizer


def load_tokenizer(model: str) -> Any:
    """Return the tokenizer of a base model: `tiny`, a directory, or a hub id.

    Raises:
        LvjobsError: it is not on this machine, or transformers cannot load it.
    """
    try:
        return offline_transformers().AutoTokenizer.from_pretrained(_source(model), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:  # KeyError: a tokenizer.json that lacks a part
        raise _unloadable(model, error) from error


def offline_transformers() -> Any:
    """Import transformers so that it never uses the network."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is first imported
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers


def _source(model: str) -> str:
    return str(TINY_DIRECTORY) if model == TINY else model


def _import_peft(*, with_bitsandbytes: bool) -> None:
    """Import PEFT, and bitsandbytes with it only if it is needed.

    PEFT imports bitsandbytes wherever it is installed, which takes a quarter of an attempt's start-up time. It checks
    once whether it is there and keeps the answer. None in sys.modules makes Python report that a module cannot be
    imported.
    """
    is_first = "peft" not in sys.modules and "bitsandbytes" not in sys.modules
    if is_first and not with_bitsandbytes:
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    try:
        from peft import import_utils

        questions = (import_utils.is_bnb_available, import_utils.is_bnb_4bit_available)
        for question in questions:
            if with_bitsandbytes:
                question.cache_clear()
            question()
    finally:
        if is_first and not with_bitsandbytes:
            del sys.modules["bitsandbytes"]


def _keep_unpacked(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights, on CPUs with AVX512-BF16, when a model is first evaluated.

    Its packed kernel has no gradient. After one validation, training would fail in layers with a bias. In layers
    without one it would continue, with gradients that stop there.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _unloadable(model: str, error: Exception) -> LvjobsError:
    reason = str(error).partition("\n")[0]
    if Path(model).is_dir():
        command = remedies.MODEL_CHECK(model=model)
        return LvjobsError(f"model directory {model} cannot be loaded ({reason}); see what it lacks: {command}")
    if not is_hub_id(model):
        return LvjobsError(f"model {model!r} is no directory that this machine has ({reason}); {NO_HUB_ID}")
    return LvjobsError(
        f"model {model!r} is not in this machine's cache ({reason}), and jobs do not download; on a node with a "
        f"network, with the same HF_HOME, type: {remedies.MODEL_PULL(model=model)}"
    )


def add_adapter(model: Any, config: TrainingConfig) -> Any:
    """Return the model with a new LoRA adapter, its only trainable part. Draws from torch's generator.

    Raises:
        LvjobsError: `lora_targets` does not fit the model.
    """
    from peft import LoraConfig

    family = FAMILIES.get(model.config.model_type, FAMILIES[DEFAULT_FAMILY])
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=config.lora_rank if config.lora_alpha is None else config.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora_dropout,
        target_modules=list(family.query_value) if config.lora_targets == "qv" else config.lora_targets,
    )
    try:
        return _adapted(model, lora)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise LvjobsError(
            f"lora_targets = {config.lora_targets!r} does not fit {config.model!r} ({reason}); submit a run with "
            f"another of {', '.join(get_args(LoraTargets))}"
        ) from error


def attach_adapter(model: Any, directory: Path) -> Any:
    """Return the model with an adapter that PEFT saved, wherever it was trained; for inference.

    Raises:
        LvjobsError: there is no adapter, or it is not for this model, or not for these weights of it.
        AdapterMismatch: see `load_adapter`.
    """
    from peft import LoraConfig

    for name in ("adapter_config.json", "adapter_model.safetensors"):  # peft would request them from the hub
        if not (directory / name).is_file():
            raise LvjobsError(f"{directory} has no {name}: name the directory of an adapter that PEFT saved")
    try:
        adapted = _adapted(model, LoraConfig.from_pretrained(str(directory)))
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise LvjobsError(
            f"{directory} holds no adapter for this model ({reason}); name one that was trained on it"
        ) from error
    load_adapter(adapted, directory)
    return adapted.requires_grad_(requires_grad=False).eval()


def _adapted(model: Any, lora: Any) -> Any:
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft 0.21 uses a deprecated name of transformers 5.24 to check for gradient checkpointing.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, lora)


def save_adapter(model: Any, directory: Path) -> None:
    """Write the adapter in PEFT's own format. Its file of weights has the SHA-256 of the base model's, too."""
    # PEFT would write a template of a model card each time: ten milliseconds, and a file that says nothing.
    model.create_or_update_model_card = lambda _: None
    # Not "auto": that would request the base model's vocabulary from the hub.
    model.save_pretrained(directory, save_embedding_layers=False)
    write_base(directory, model.base_weights)


def load_adapter(model: Any, directory: Path) -> None:
    """Load a saved adapter's weights into `model`, through PEFT, exactly.

    Raises:
        LvjobsError: it was trained on other weights of the base model.
        AdapterMismatch: a weight is missing, unexpected, of another shape, or did not arrive bit for bit. The study
            that lvjobs replaces reloaded adapters with random weights in them, unnoticed.
    """
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    check_base(directory, model.base_weights)
    saved = load_peft_weights(str(directory), device="cpu")
    shapes = {
        name: weights.shape for name, weights in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    if missing := sorted(shapes.keys() - saved.keys()):
        raise AdapterMismatch(
            f"{directory}: the adapter lacks {len(missing)} weight(s), such as {missing[0]}; {_REPLACE}"
        )
    if unexpected := sorted(saved.keys() - shapes.keys()):
        raise AdapterMismatch(
            f"{directory}: the adapter has {len(unexpected)} weight(s) too many, such as {unexpected[0]}; {_REPLACE}"
        )
    for name, weights in saved.items():
        if weights.shape != shapes[name]:
            raise AdapterMismatch(
                f"{directory}: {name} has the shape {tuple(weights.shape)}, the model's is {tuple(shapes[name])}; "
                f"{_REPLACE}"
            )
    set_peft_model_state_dict(model, saved)
    for name, weights in get_peft_model_state_dict(model, save_embedding_layers=False).items():
        if not torch.equal(weights.cpu(), saved[name].to(weights.dtype)):
            raise AdapterMismatch(f"{directory}: {name} was not loaded by the model; {_REPLACE}")


def compile_layers(model: Any) -> None:
    """Have the model's layers compiled when they are first called, in place: trained weights keep their names.

    Layers are compiled one by one: all are alike, so one is compiled for all. Each is compiled for one shape at a time:
    torch would otherwise compile for any shape once it has met a second one, and a run that resumes meets them in
    another order.
    """
    kinds = getattr(model, "_no_split_modules", None) or ()
    for layer in [part for part in model.modules() if type(part).__name__ in kinds] or [model]:
        layer.compile(dynamic=False)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Shield compilers in here: they are processes, and a signal that asks this run to stop must not kill them.

    Raises:
        LvjobsError: this machine cannot compile.
    """
    try:
        with shielded():
            yield
    except Exception as error:  # dynamo and inductor have no base class of their own, only modules
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = next(line for line in [*str(error).splitlines(), type(error).__name__] if line.strip())
        raise LvjobsError(
            f"compile = true, and this machine cannot compile the model ({reason.strip()}): load a compiler, such as "
            f"gcc among [resources] modules, or set compile = false"
        ) from error

"""Chronos models with random weights, a few kilobytes each, for the tests of extra baselines."""

import warnings

import torch

QUANTILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}


def make_bolt(directory, seed=0):
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    own = {
        "context_length": 64,
        "prediction_length": 8,
        "input_patch_size": 4,
        "input_patch_stride": 4,
        "quantiles": QUANTILES,
        "use_reg_token": True,
    }
    config = T5Config(vocab_size=2, num_decoder_layers=1, pad_token_id=0, decoder_start_token_id=0, **SIZES)
    config.chronos_config, config.chronos_pipeline_class = own, "ChronosBoltPipeline"
    config.architectures = ["ChronosBoltModelForForecasting"]
    return saved(ChronosBoltModelForForecasting, config, directory, seed)


def make_chronos_2(directory, seed=0):
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    own = {
        "context_length": 64,
        "output_patch_size": 4,
        "input_patch_size": 4,
        "input_patch_stride": 4,
        "quantiles": QUANTILES,
        "use_reg_token": True,
        "use_arcsinh": True,
        "max_output_patches": 8,
    }
    config = Chronos2CoreConfig(**SIZES)
    config.chronos_config, config.chronos_pipeline_class = own, "Chronos2Pipeline"
    config.architectures = ["Chronos2Model"]
    return saved(Chronos2Model, config, directory, seed)


def saved(kind, config, directory, seed):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = kind(config)
        for weights in model.parameters():  # as they are initialized, all forecasts would be nearly equal
            weights.data.normal_(std=0.3)
        model.save_pretrained(directory)
    return directory

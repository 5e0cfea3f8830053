"""The bundled task: language models that forecast series of numbers as text, trained, evaluated and scored.

Data: `data` reads and checks a study's HDF5 file, and makes one by solving its equations. `splits` divides its systems
into training, validation and scoring. `codec` writes series as text and reads them back, `grammar` has the texts that
are possible and draws among them, and `tokens` maps characters to token ids and puts instructions around them.
`windows` cuts token windows and shuffles them.

Training: `train` is the task. `models` loads base models and adapters, and compiles their layers. `head` restricts a
model's output to digits, `learning_rate` has the schedules, `validation` forecasts validation systems, and `stopping`
ends a run early. `hub` finds and checks models on this machine and pulls them, `base_weights` ties an adapter to the
weights on which it was trained, and `convert` reads GGUF files. The bundled model `tiny` is made by
scripts/pretrain_tiny.py.

Forecasts: `evaluate` is the task that forecasts held-out series. `decode` writes forecasts, with `cache` for its keys
and values. `likelihood` computes how likely a truth is. `metrics` defines every score, and `baselines` has forecasts
without a language model; `comparison` compares two forecasters in pairs. `results` scores both, writes an evaluation's
result and reads it back, `pooling` joins those of the parts of a k-fold split, and `series_forecast` has one series of
a result. `extra_files` keeps the forecasts of extra baselines, and `chronos_models` finds Chronos models.

For the commands, without torch: `tasks` describes the two tasks, `costs` counts their FLOPs, `evaluations` declares
evaluations as runs, `needs` checks what their jobs need, `origins` moves them to other forecast origins, and
`adapters` copies an adapter out of a checkpoint. `instruction_tokens` counts an instruction's tokens in a process of
its own.
"""

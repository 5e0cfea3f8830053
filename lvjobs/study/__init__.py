"""The declarations of a user, and the paths of a study's files. No module here talks to a cluster or opens runs.db.

study.toml: `config` reads it and names wrong keys. Its tables are in `tables` (resources, budget, policy and others),
`notify` ([notify], with the addresses that it takes), `remote` ([remote]), `settings` ([train]), `stages` ([[stage]])
and `space` (the values that a search may propose). `suggest` finds the name that was meant by a mistyped one, and
`digits` is the text form of FLOPs. `stage_order` has the order of the stages, and `stage_checks` checks each against
[train]. `fields` has the types of keys as people write them, and what is declared of a key beside its type. `presets`
has named settings and stages, and `template` writes the commented file.

`program` has the keys of [train] for a program, and all that reads one.

Runs: `run` has the immutable configuration and run.json, and decides which settings count for a fingerprint.
`parent` is the checkpoint of another run that a run continues from, and `run_names` finds a run by a part of its name.
`params` has the params of the bundled tasks. `config` also has the settings that may change
later. `words` has the states and causes. `layout` has the paths of all files, and `found` the study that contains
the current directory.
"""

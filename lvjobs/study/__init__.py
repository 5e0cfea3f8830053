"""The declarations of a user, and the paths of a study's files. No module here talks to a cluster or opens runs.db.

study.toml: `config` reads it and names wrong keys. Its tables are in `tables` (resources, budget, policy and others),
`settings` ([train]), `stages` ([[stage]]) and `space` (the values that a search may propose). `numbers` and `lists`
read values as people write them, and `marks` has what is declared of a key beside its type. `presets` has named
settings and stages, and `template` writes the commented file.

Runs: `run` has the immutable configuration and run.json. `training` and `evaluation` have the params of the bundled
tasks. `identity` decides which settings count for a fingerprint, and `current` which settings may change later. `names`
finds a run by a part of its name. `words` has the states and causes. `layout` has the paths of all files.
"""

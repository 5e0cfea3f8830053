"""The declarations of a user, and the paths of a study's files. No module here talks to a cluster or opens runs.db.

study.toml: `config` reads it and names wrong keys. Its tables are in `tables` (resources, budget, policy and others),
`settings` ([train]), `command` (its keys for a program), `stages` ([[stage]]) and `space` (the values that a search may
propose). `fields` has the types of keys as people write them, and what is declared of a key beside its type. `presets`
has named settings and stages, and `template` writes the commented file. `program_presets` has what is known of
libraries whose programs are run, and `placeholders` fills values into a program's arguments.

Programs: `command` has the keys of a program in [train], `placeholders` fills in its arguments, and `program_presets`
has what is known of a library. `command_line` reads a command as a program, and `batch_script` an existing batch
script, with `batch_options` for its #SBATCH lines and `shell_words` for its commands. `program_guess` makes
placeholders of a command's options, `program_source` finds a program's library and its output in its source, and
`program_template` writes its [train].

Runs: `run` has the immutable configuration and run.json, decides which settings count for a fingerprint, and finds a
run by a part of its name. `params` has the params of the bundled tasks. `config` also has the settings that may change
later. `words` has the states and causes. `layout` has the paths of all files.
"""

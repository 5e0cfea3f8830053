"""A program of any language, as [train] declares it, and as existing command lines and batch scripts have it.

Declared: `command` has the keys of [train], `presets` what is known of libraries, and `placeholders` fills values into
arguments. `pattern` has the names of its checkpoints. `container` has the table of that name, and `engines` the command
line of each container engine.

Read, for `lvjobs init`: `command_line` reads a command as it is typed, and `batch_script` an existing batch script,
with `batch_options` for its #SBATCH lines, `batch_nodes` for several nodes and tasks, and `shell_words` for its
commands. `guess` makes placeholders of a command's options, `source` finds a program's library and output in its
source, and `template` writes its [train].
"""

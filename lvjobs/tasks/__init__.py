"""Tasks: the work that runs do, and everything that lvjobs has to know about it.

`protocol` has the methods that lvjobs calls on a task, and `registry` finds the `Task` of a run's configuration: no
other module checks which task a run has. `function` is a user's own function, also one that calls `lvjobs.fit` for a
Hugging Face Trainer; `command` is a program of any language. The bundled training and evaluation are in
`lvjobs.forecasting.tasks`. `code_copies` keeps copies of the submitted code. `working_copy` finds the files of a
program's working directory that a copy gets, within `copy_limits`; `git` has the questions to git. `origin` says
where a program's code comes from, and `activation` which environment it runs in; `image` has what is known of its
container's image; `packages` lists what is in an environment, by the text `installed`, which the environment's own
Python executes. `ask_process` runs, in a separate process, what needs a module that no command may load.
"""

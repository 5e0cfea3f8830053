"""Tasks: what a run executes, and all that lvjobs has to know of it.

`protocol` says what lvjobs asks of a task, and `registry` finds the `Task` of a run's configuration: no other module
asks which task a run has. `function` is a function of the user's own, also one that calls `lvjobs.fit` for a Hugging
Face Trainer. The bundled training and evaluation are in `lvjobs.forecasting.tasks`. `code_copies` keeps the code that
was submitted. `ask_process` asks, in a process of its own, what needs a module that no command may load.
"""

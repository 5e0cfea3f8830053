"""A dress rehearsal: a shortened run that gets injected faults, beside the same run undisturbed.

It proves, before anything is queued for hours, that a training resumes bit for bit; or it shows where it does not.
`conduct` is the whole of it, and `runs` trains each run. `faults` has the faults of each kind of cluster and of a
program, and injects them: `processes` finds the processes of the run, and `saves` the moment in which a program writes
a checkpoint. `escapes` finds what a program writes outside of its directory. `attempts` reads the journals of a run,
`differences` compares two results, and `verdict` judges.
"""

"""A dress rehearsal: a shortened run that gets injected faults, beside the same run undisturbed.

It proves, before anything is queued for hours, that a training resumes bit for bit; or it shows where it does not.
`conduct` trains both runs, and has and injects the faults of each kind of cluster. `verdict` compares the results.
"""

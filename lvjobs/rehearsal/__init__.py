"""A dress rehearsal: a shortened run that gets injected faults, beside the same run undisturbed.

It proves, before anything is queued for hours, that a training resumes bit for bit; or it shows where it does not.
`conduct` trains both runs and injects the faults, `injected_faults` has the faults of each kind of cluster, and
`verdict` compares the results.
"""

"""A dress rehearsal: a run, shortened, that meets on purpose what a cluster does to jobs, beside one left alone.

It proves, before anything is queued for hours, that a training resumes bit for bit; or it shows where it does not.
"""

"""The history of a study and its reasons, for people and for other programs. Reads only.

`why` explains a run's state, with `tracebacks` and `next_steps`; `describe` has all that is known of a run;
`alternatives` asks what would start earlier; `history` lists a run's events; `logs` finds the output of its jobs;
`export` returns the ledger's rows as tables; `report_data` collects the report's data.
"""

"""What happened in a study and why, for people and for other programs. Reads only.

`why` explains a run's state; `sooner` asks what would start earlier; `history` lists a run's events; `logs` finds what
its jobs printed; `export` gives the ledger's rows as tables; `report_data` collects what the report shows.
"""

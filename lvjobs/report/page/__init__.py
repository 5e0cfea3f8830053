"""The report: one HTML file, and tables beside it. Only `lvjobs report` imports this package."""

"""The driver: the background job that makes passes while nobody is there, and the notices it sends.

`driver` keeps one running and one on standby; `status` reports it and what the site allows; `notify` sends notices by
mail or webhook. A new notification channel goes into `notify`.
"""

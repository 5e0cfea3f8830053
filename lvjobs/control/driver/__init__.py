"""The driver: the background job that makes passes while no command runs, and notices to the user.

`driver` keeps one job running and one on standby; `status` reports them and what the site allows; `notify` sends
notices by mail or webhook. A new notification channel goes into `notify`.
"""

"""runs.db: what is known of a study, and the lease that says who may write it. The only room that knows SQL."""

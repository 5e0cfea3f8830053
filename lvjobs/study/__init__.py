"""What the user declares: study.toml, run configurations, stages, resources, budget; and where a study keeps things."""

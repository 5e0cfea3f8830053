"""The only room that talks to Slurm: one `Cluster` protocol with three backends: slurm, local, simulated."""

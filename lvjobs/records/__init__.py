"""What a worker leaves and a pass reads: formats only, pure."""

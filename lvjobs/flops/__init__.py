"""What a step costs. Integers, from named conventions; `official` is the one that binds."""

"""Stages: which runs they are made of."""

"""Sweeps: run a grid of jobs or search with Optuna, survive interruptions, and report."""

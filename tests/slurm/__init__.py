"""Runs and sweeps on a real Slurm cluster of one node."""

"""Runs under faults: signals at any moment, bad disks, no shared memory, damaged files.

Processes, signals and small file systems are real. `families` has a tiny run of each model family,
`processes` starts it, `disks` mounts file systems, `kills` cuts and resumes runs, and `table`
writes docs/results/faults.md from the results of `kills`.
"""

"""What a run survives: signals at any moment, full and read-only disks, missing shared memory, damaged files.

Real processes, real signals, real small file systems. `families` has a tiny run of each model family, `processes` starts
it, `disks` mounts, `kills` cuts and resumes, `table` writes docs/results/faults.md from what `kills` found.
"""

"""How torch's threads wait for each other; torch is not imported here."""

import os


def wait_passively() -> None:
    """Let torch's threads sleep while they wait for each other, instead of spinning.

    Where other threads need the processors, a spinning thread keeps them from the thread that it
    waits for: EfficientNet-Lite0 took 0.5 to 1.7 seconds for an image instead of 0.05 on two busy
    cores. Call this before torch is imported. OMP_WAIT_POLICY, where it is set, takes precedence.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

"""Set up the process of a run: its log, warnings, memory and precision."""

import logging
import os
import warnings
from pathlib import Path

import torch

from src.core import runs
from src.core.errors import writing
from src.core.files import LogFile

KNOWN_WARNINGS = (
    "does not have many workers",
    "`srun` command is available",
    "sync_dist=True",  # torchmetrics has reduced these values already
    "smaller than the logging interval",
    "is not resumable",
    "LeafSpec",
    "ranks is zero",
    "in eval mode at the start of training",
    "callbacks used to create the checkpoint",  # a resumed run may leave one out
    "TensorFloat32 tensor cores",
    "RNN module weights are not part of single contiguous",  # DRAW's, for its samples only
)


def open_log(folder: Path, append: bool) -> logging.Logger:
    """Return the project's logger, which writes to the terminal and to folder/train.log.

    Args:
        folder: the run's folder; it is created if it does not exist.
        append: whether to keep the lines of earlier sessions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = log_to_terminal()
    if not runs.is_first_process():
        return log
    path = folder / "train.log"
    with writing(str(path)):
        to_file = LogFile(
            path,
            mode="a" if append else "w",
            encoding="utf-8",
            errors="backslashreplace",  # file names are not always UTF-8
        )
    to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(to_file)
    return log


def log_to_terminal() -> logging.Logger:
    """Return the project's logger, which writes to stderr in the first process, and only there."""
    log = logging.getLogger("src")
    for handler in log.handlers[:]:  # those of the previous job of a sweep
        log.removeHandler(handler)
        handler.close()
    log.propagate = False
    if runs.is_first_process():
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())
    return log


def quiet() -> None:
    """Silence Lightning messages that we print ourselves, and warnings that do not apply here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for words in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", f".*{words}.*")
    # torch.compile imports it on a CPU too
    logging.getLogger("torch.utils.cpp_extension").addFilter(_is_not_about_cuda)


def _is_not_about_cuda(record: logging.LogRecord) -> bool:
    return "No CUDA runtime is found" not in record.msg


def no_driver_checks() -> None:
    """Stop Lightning from looking for NVIDIA's driver at every step on a machine without a GPU."""
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def fast_precision(accelerator: str) -> str:
    """Return bf16-mixed if the hardware multiplies bf16 faster than float32, else 32-true."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        cpuinfo = Path("/proc/cpuinfo")
        fast = cpuinfo.exists() and has_fast_bf16(cpuinfo.read_text())
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"


def has_fast_bf16(cpuinfo: str) -> bool:
    """Return whether the CPU that /proc/cpuinfo describes multiplies bf16 faster than float32.

    AMX does. AVX512-BF16 doubles the rate on AMD's processors; on Intel's it is no faster than
    float32 (150 against 270 GFLOP/s for matrices of 1024 x 1024, two cores of Emerald Rapids).
    """
    has_avx512_bf16 = "avx512_bf16" in cpuinfo
    return "amx_bf16" in cpuinfo or (has_avx512_bf16 and "AuthenticAMD" in cpuinfo)

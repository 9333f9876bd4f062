"""Export a finished classifier to one file, for programs without this project.

python -m src.export run=DIR                                  ONNX, model.onnx
python -m src.export run=DIR out=digits.onnx
python -m src.export run=DIR format=torch out=digits.pt2      for torch.export.load

The file maps `images` (B, C, H, W) float32 in [0, 1], for any B, to `logits` (B, classes). It
includes the normalization, and the pixel permutation if the run has one. If the run has a moving
average, that is exported. `class_names` and `size` (height, width) are stored as JSON: in the
metadata_props of an ONNX file, in the extra files of a .pt2. The new file is loaded and compared
with the net before it gets its name.
"""

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from src.config import cli
from src.core import runs
from src.core.errors import UserError, writing
from src.core.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from src.engine.load import LoadedClassifier

ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-4  # of the logits' scale
BATCHES = (1, 3)  # neither is the two images that the exporters trace


def export(cfg: DictConfig) -> Path:
    """Write the classifier of cfg.run into cfg.out; returns its path."""
    folder, out, ending = (
        Path(cfg.run).expanduser(),
        Path(cfg.out).expanduser(),
        ENDINGS[cfg.format],
    )
    out = out if out.suffix else out.with_suffix(ending)
    if out.suffix.lower() != ending:
        raise UserError(f"out={out}: with format={cfg.format} its name ends in {ending}")
    if out.is_dir():
        raise UserError(f"out={out} cannot be written: it is a folder")
    runs.expect_classifier(folder)

    from src.engine.load import load_classifier

    trained = load_classifier(folder)
    write = {"onnx": write_onnx, "torch": write_torch}[cfg.format]
    differences: list[float] = []
    with writing(f"out={out}"), exporting(cfg.format):
        write_atomically(
            out, lambda path: differences.append(difference(trained, write(trained, path)))
        )
    print(f"{out}: {len(trained.class_names)} classes, {out.stat().st_size / 2**20:.2f} MiB; read again, its logits "
          f"differ from the net's by at most {differences[0]:.0e} of their scale")  # fmt: skip
    return out


def write_onnx(trained: "LoadedClassifier", path: Path) -> "Callable[[Tensor], Tensor]":
    """Write ONNX to `path`, check it, and return it as ONNX Runtime runs it: images -> logits."""
    import onnx
    import onnxruntime
    import torch

    program = torch.onnx.export(
        trained.net,
        (_example(trained),),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(described(trained))
    program.save(path, external_data=False)
    model = path.read_bytes()  # neither takes a name that is not UTF-8
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def write_torch(trained: "LoadedClassifier", path: Path) -> "Callable[[Tensor], Tensor]":
    """Write an ExportedProgram to `path`; return what torch.export.load reads from it."""
    import torch

    program = torch.export.export(
        trained.net, (_example(trained),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    with path.open("wb") as file:  # by its name torch would want it to end in .pt2
        torch.export.save(program, file, extra_files=described(trained))
    with path.open("rb") as file:
        return torch.export.load(file).module()


def described(trained: "LoadedClassifier") -> dict[str, str]:
    """What a program must know besides the net."""
    return {"class_names": json.dumps(trained.class_names), "size": json.dumps(trained.size)}


def difference(trained: "LoadedClassifier", exported: "Callable[[Tensor], Tensor]") -> float:
    """Return the largest difference of the logits on noise, relative to the largest logit.

    Raises UserError if it is above TOLERANCE.
    """
    import torch

    from src.core.randomness import generator

    noise = generator(0, "export")
    found = []
    for n in BATCHES:
        images = torch.rand(n, trained.channels, *trained.size, generator=noise)
        with torch.no_grad():
            expected = trained.net(images)
            found.append((exported(images) - expected).abs().max() / expected.abs().max())
    worst = torch.stack(found).max().item()  # nan, where any is
    if not worst <= TOLERANCE:
        raise UserError(
            f"what was exported says otherwise than the net: its logits differ by {worst:.1e} of their scale"
        )
    return worst


def _example(trained: "LoadedClassifier") -> "Tensor":
    import torch

    return torch.zeros(2, trained.channels, *trained.size)


@contextmanager
def exporting(format: str) -> Iterator[None]:
    """Keep the exporters' talk from the terminal; what they cannot do becomes a line."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how torch's own parts use each other
            yield
    except (UserError, OSError):
        raise
    except Exception as error:  # each exporter and each layer raises its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"format={format}: the net cannot be exported: {reason}") from error
    finally:
        logging.disable(before)


if __name__ == "__main__":
    sys.exit(cli.command("export", export, __doc__ or ""))

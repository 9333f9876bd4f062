"""Export a finished classifier to one file, for programs without this project.

python -m src.export run=DIR                                  ONNX, model.onnx
python -m src.export run=DIR out=digits.onnx
python -m src.export run=DIR format=torch out=digits.pt2      for torch.export.load

The file maps `images` (B, C, H, W) float32 in [0, 1], for any B, to `logits` (B, classes). It
includes the normalization, and the pixel permutation if the run has one. If the run has a moving
average of its weights, that is exported. `class_names`, `size` (height, width), `crop` and
`interpolation` (how an image is brought to that size) are stored as JSON: in the metadata_props of
an ONNX file, in the extra files of a .pt2. The new file is loaded and compared with the network
before it gets its name. ONNX needs: pip install '.[export]'
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
from src.config.saved import expect_classifier
from src.core.chosen_checkpoint import path_of
from src.core.counts import count
from src.core.errors import UserError, writing
from src.core.files import write_atomically
from src.core.packages import require

if TYPE_CHECKING:
    from torch import Tensor

    from src.engine.load import LoadedClassifier

EXTENSIONS = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-4  # largest difference of logits, relative to the largest logit
BATCHES = (1, 3)  # numbers of images to compare; the exporters trace two


def export(cfg: DictConfig) -> Path:
    """Write the classifier of cfg.run to cfg.out; return its path."""
    folder, out = Path(cfg.run).expanduser(), Path(cfg.out).expanduser()
    extension = EXTENSIONS[cfg.format]
    out = out if out.suffix else out.with_suffix(extension)
    if out.suffix.lower() != extension:
        raise UserError(f"out={out}: with format={cfg.format} the name must end in {extension}")
    if out.is_dir():
        raise UserError(f"out={out} cannot be written: it is a folder")
    if cfg.format == "onnx":
        require("format=onnx", "export", "onnx", "onnxruntime", "onnxscript")
    expect_classifier(folder)
    path_of(folder, cfg.which)

    from src.engine.load import load_classifier

    trained = load_classifier(folder, cfg.which)
    write = {"onnx": write_onnx, "torch": write_torch}[cfg.format]
    differences: list[float] = []
    with writing(f"out={out}"), exporting(cfg.format):
        write_atomically(
            out, lambda path: differences.append(difference(trained, write(trained, path)))
        )
    classes, size = count(len(trained.class_names), "class"), out.stat().st_size / 2**20
    print(
        f"{out}: {classes}, {size:.2f} MiB; the logits of the exported file differ from "
        f"the network's by at most {differences[0]:.0e} of their scale"
    )
    return out


def write_onnx(trained: "LoadedClassifier", path: Path) -> "Callable[[Tensor], Tensor]":
    """Write ONNX to `path`, check it, and return a function that runs it: images -> logits."""
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
    program.model.metadata_props.update(metadata(trained))
    program.save(path, external_data=False)
    model = path.read_bytes()  # onnx and onnxruntime cannot open names that are not UTF-8
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def write_torch(trained: "LoadedClassifier", path: Path) -> "Callable[[Tensor], Tensor]":
    """Write an ExportedProgram to `path`; return what torch.export.load reads from it."""
    import torch

    program = torch.export.export(
        trained.net, (_example(trained),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    with path.open("wb") as file:  # torch rejects the name of a file that does not end in .pt2
        torch.export.save(program, file, extra_files=metadata(trained))
    with path.open("rb") as file:
        return torch.export.load(file).module()


def metadata(trained: "LoadedClassifier") -> dict[str, str]:
    """Return the facts that a program needs in addition to the net: name -> JSON."""
    fit = {name: getattr(trained.fit, name) for name in ("size", "crop", "interpolation")}
    facts = {"class_names": trained.class_names, **fit}
    return {name: json.dumps(value) for name, value in facts.items()}


def difference(trained: "LoadedClassifier", exported: "Callable[[Tensor], Tensor]") -> float:
    """Return the largest difference of the logits on noise, relative to the largest logit.

    Raises UserError if it is above TOLERANCE.
    """
    import torch

    from src.core.randomness import generator

    noise = generator(0, "export")
    differences = []
    for n in BATCHES:
        images = torch.rand(n, *trained.fit.shape, generator=noise)
        with torch.no_grad():
            expected = trained.net(images)
            differences.append((exported(images) - expected).abs().max() / expected.abs().max())
    worst = torch.stack(differences).max().item()  # nan if any is nan
    if not worst <= TOLERANCE:
        raise UserError(
            "the exported file computes other logits than the network: "
            f"they differ by {worst:.1e} of their scale"
        )
    return worst


def _example(trained: "LoadedClassifier") -> "Tensor":
    import torch

    return torch.zeros(2, *trained.fit.shape)


@contextmanager
def exporting(format: str) -> Iterator[None]:
    """Silence the messages of the exporters, and turn their errors into a UserError."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation warnings within torch
            yield
    except (UserError, OSError):
        raise
    except Exception as error:  # exporters and layers can raise any exception type
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"format={format}: the network cannot be exported: {reason}") from error
    finally:
        logging.disable(before)


if __name__ == "__main__":
    sys.exit(cli.command("export", export, __doc__ or ""))

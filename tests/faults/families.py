"""A tiny run of each model family, which uses all of its training state and saves often."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.processes import Server

RUN = (
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "checkpoint.every_n_batches=3",
    "callbacks.progress.every_n_seconds=1e-6",  # a line for each batch
    "~callbacks.quality",
    "callbacks.samples.n=8",
    "callbacks.samples.every_n_batches=7",
    "callbacks.weights.every_n_batches=16",
)
DIGITS = ("data=digits", "data.limit=100", "data.batch_size=32", "data.val_size=20")  # 4 batches
SMALL_GAN = (
    "model.net.generator.base_channels=4",
    "model.net.discriminator.base_channels=4",
    "data.size=16",
)


@dataclass(frozen=True)
class FamilyRun:
    """A run of a family.

    Attributes:
        overrides: what makes it.
        epochs: how many, so that the run takes some seconds.
        precisions: those that it trains in.
        processes: that train together.
    """

    overrides: tuple[str, ...]
    epochs: int
    precisions: tuple[str, ...] = ("32-true", "bf16-mixed")
    processes: int = 1

    def arguments(self, inputs: Path, precision: str) -> list[str]:
        """The command line of the run; `inputs` are those of `make_inputs`."""
        given = [o.replace("INPUTS", str(inputs)) for o in self.overrides]
        epochs = f"trainer.max_epochs={self.epochs}"
        return [*RUN, *given, epochs, f"trainer.precision={precision}", f"cache={inputs / 'cache'}"]


CLASSIFIER = (
    "model=vgg",
    "model.net.features=[4,M,8,M,D]",
    "model.net.dropout=[0.3,0]",
    "model/optimizer=muon",
    "model/schedule=plateau",
    "model.schedule.patience=0",
    "model.schedule.min_delta=1e9",
    "model.ema=0.9",
    "augment=crop_flip",
    "callbacks=[default,early_stopping]",
    "callbacks.early_stopping.patience=99",
    "callbacks.filters.every_n_batches=9",
    "callbacks.explanations.n_classes=2",
    "callbacks.explanations.every_n_batches=20",
)

FAMILIES = {
    "gan": FamilyRun(
        (
            *DIGITS,
            "model=gan",
            "model.net.generator.hidden_dims=[16]",
            "model.net.discriminator.hidden_dims=[16]",
            "model.n_critic=3",
            "model.ema=0.9",
            "model/schedule=cosine",
        ),
        epochs=12,
    ),
    "wgan_gp": FamilyRun((*DIGITS, "model=wgan_gp", *SMALL_GAN), epochs=8),
    "cdcgan": FamilyRun((*DIGITS, "model=cdcgan", *SMALL_GAN), epochs=8),
    "draw": FamilyRun(
        (
            *DIGITS,
            "model=draw",
            "data.binarize=true",
            "model.net.num_steps=3",
            "model.net.encoder_dim=8",
            "model.net.decoder_dim=8",
            "model/schedule=cosine",
            "callbacks.canvases.n=2",
            "callbacks.canvases.every_n_batches=9",
        ),
        epochs=8,
    ),
    "vae": FamilyRun(
        (
            *DIGITS,
            "model=vae",
            "data.binarize=true",
            "model.latent_dim=3",
            "model.net.encoder.hidden_dims=[16]",
            "callbacks.reconstructions.n=4",
            "callbacks.reconstructions.every_n_batches=9",
        ),
        epochs=12,
    ),
    "classifier": FamilyRun((*DIGITS, *CLASSIFIER), epochs=6),
    "classifier, files": FamilyRun(  # read by workers, augmented, three batches per step
        (
            "data=folder",
            "data.root=INPUTS/photos",
            "data.size=16",
            "data.batch_size=8",
            "data.val_size=8",
            "data.test_size=8",
            "data.in_memory=false",
            "data.workers=2",
            "model=fc",
            "augment=crop_flip",
            "trainer.accumulate_grad_batches=3",
        ),
        epochs=4,
    ),
    "cyclegan": FamilyRun(
        (
            "data=winter",
            "data.root=INPUTS/photos",
            "data.size=16",
            "data.batch_size=8",
            "data.val_size=4",
            "data.test_size=4",
            "model=cyclegan",
            "model.generator.base_channels=4",
            "model.generator.n_blocks=1",
            "model.discriminator.base_channels=4",
            "model.pool_size=20",
            "augment=flip",
        ),
        epochs=5,
    ),
    "style_transfer": FamilyRun(
        (
            "data=style_pair",
            "data.content=INPUTS/photo.png",
            "data.style=INPUTS/style.png",
            "data.size=[16,20]",
            "data.num_steps=24",
            "model=style_transfer_own",
            "model.init_from=INPUTS/vgg",
            "model.net.features=[4,M,8]",
            "model.content_layers=[relu2]",
            "model.style_layers=[relu1,relu2]",
            "model.optimizer.max_iter=3",
            "model.style_weight=100",
        ),
        epochs=1,
        precisions=("32-true",),
    ),
    "word_vectors": FamilyRun(("data=reviews", "model=word_vectors"), epochs=5),
    "sentiment": FamilyRun(
        ("data=reviews", "data.batch_size=2", "model=sentiment", "model/schedule=cosine"), epochs=12
    ),
    "classifier, two processes": FamilyRun(
        (
            *DIGITS,
            "model=cnn",
            "trainer=ddp",
            "trainer.devices=2",
        ),
        epochs=6,
        processes=2,
    ),
}


def make_inputs(folder: Path, server: Server) -> Path:
    """Write the inputs of the runs: photographs of two classes, a style, a classifier."""
    noise = np.random.default_rng(0)

    def image(path: Path, height: int, width: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)

    for i in range(40):
        image(folder / "photos" / ("cats", "dogs")[i % 2] / f"{i:02d}.png", 16, 16)
    image(folder / "photo.png", 30, 40)
    image(folder / "style.png", 50, 50)
    photos = ("data=folder", f"data.root={folder / 'photos'}", "data.size=16", "data.test_size=8")
    vgg = ("model=vgg", "model.net.features=[4,M,8,8]", *photos, "data.cache=null", "test=false")
    plain = ("trainer=debug", "callbacks=none", "logger=csv", f"hydra.run.dir={folder / 'vgg'}")
    run = server.start([*vgg, *plain], folder)
    assert run.wait() == 0, run.said
    return folder

"""Small runs whose metrics are checked, and the quality of samples on a data set."""

import torch

from tests.conftest import TINY, TINY_NETS, WINTER_SMALL

BF16 = "trainer.precision=bf16-mixed"
CARD = ("callbacks=default", "~callbacks.samples", "~callbacks.canvases", "~callbacks.weights",
        "~callbacks.graph",
        "~callbacks.filters", "~callbacks.explanations", "~callbacks.predictions",
        "callbacks.quality.n=40")  # fmt: skip
# small runs by the class of the model
FAMILIES = {
    "src.models.gan.GAN": (*TINY_NETS, *CARD, "data.val_size=50"),
    "src.models.classifier.Classifier": ("model=cnn", "model.ema=0.5", "data.val_size=50"),
    "src.models.draw.DRAW": ("model=draw", "model.net.num_steps=3", "model.net.encoder_dim=16",
                             "model.net.decoder_dim=16",
                             "model.net.latent_dim=4", "data.val_size=50", *CARD),
    "src.models.cyclegan.CycleGAN": (*WINTER_SMALL, "data=winter", "data.root={photos}",
                                     "data.size=16", "data.val_size=8",
                                     "data.test_size=9", "data.eval_batch_size=4",
                                     "data.cache=null"),
}  # fmt: skip


def small(config, photos, family, *more):
    """Return a checked config of a small run of a class in FAMILIES."""
    words = [word.format(photos=photos) for word in FAMILIES[family]]
    return config(*TINY, *words, "trainer.max_epochs=1", *more)


def measured(callback, data, drawn=None):
    """Return the metrics of a sampler that draws real images.

    `drawn` replaces the way in which the callback draws them.
    """

    class Perfect(torch.nn.Module):
        device, logged = torch.device("cpu"), {}

        def sample(self, n, noise):
            return data.train.images[torch.randperm(len(data.train), generator=noise)[:n]] / 255

        def log_dict(self, values, **how):
            self.logged.update(values)

    class Trainer:
        datamodule = data
        world_size, training = 1, False

    model = Perfect()
    if drawn is not None:
        callback._draw_images = lambda data, part, n, name: part.subset(drawn(part, n))
    callback._prepare(Trainer)
    callback._measure(Trainer, model, "test")
    return dict(model.logged)

"""Small runs of transfer learning."""

import torch

from src.core import runs
from src.engine import build
from tests.conftest import TINY

NET = (*TINY, "data=folder", "data.size=8", "data.cache=null", "data.limit=null", "model=vgg",
       "model.net.features=[4,M,8,M,D]", "model.net.dropout=[0.3,0]", "model.ema=0.9",
       "test=false")  # fmt: skip
SOURCE = (*NET, "data.classes=[c,a,b]", "data.val_size=0", "trainer.max_epochs=2")
# 64 images, batch 16: four batches an epoch
TARGET = (*NET, "data.classes=[e,d]", "data.val_size=8", "data.test_size=8", "data.batch_size=16",
          "trainer.max_epochs=3",
          "trainer.log_every_n_steps=1", "checkpoint.every_n_batches=null")  # fmt: skip


def state_of(folder):
    return runs.load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def started(cfg):
    """Return the model and data of `cfg`, with the weights of `init_from` loaded."""
    torch.manual_seed(cfg.seed)
    data = build.datamodule(cfg)
    model = build.model(cfg, data)
    model.load_pretrained(data)
    return model, data

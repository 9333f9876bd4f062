"""Plain loops for `src.bench` to time, as tutorials write them: one image at a time, float32."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.bench.clock import Clock
from src.core.errors import UserError


def device_of(cfg: DictConfig) -> Any:
    """Return the torch.device that trainer.accelerator names."""
    import torch

    wanted = cfg.trainer.accelerator
    gpu = wanted in ("gpu", "cuda") or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")


def batches(cfg: DictConfig, data: Any, *changes: Any) -> Iterator[list[Any]]:
    """Yield the batches of `one_by_one` on the device of the run."""
    device = device_of(cfg)
    for batch in one_by_one(data, *changes):
        yield [part.to(device) for part in batch]


def one_by_one(data: Any, *changes: Any) -> Any:
    """Return a DataLoader that reads and transforms one training image at a time."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import datasets, transforms

    from src.data.images import ImageSet
    from src.data.sets.folder import Folder
    from src.data.sets.unpaired import PairSet

    if isinstance(data, Folder):
        gray = [transforms.Grayscale()] if data.channels == 1 else []
        steps = transforms.Compose(
            [transforms.Resize(data.size), *gray, transforms.ToTensor(), *changes]
        )
        folder = datasets.ImageFolder(data.split_folders()["train"], steps)
        numbers = {name: number for number, name in enumerate(data.class_names)}
        names = [numbers.get(name) for name in folder.classes]  # None: not in data.classes
        folder.samples = [
            (path, number) for path, label in folder.samples if (number := names[label]) is not None
        ]
        return DataLoader(folder, data.batch_size, shuffle=True)

    part = data.train
    if isinstance(part, ImageSet) and part.images.shape[-2:] != torch.Size(data.size):
        raise UserError(f"there is no plain loop for data={data.name}; leave it out of bench.loops")

    class OneByOne(Dataset[Any]):
        transform = transforms.Compose([transforms.ToTensor(), *changes])

        def __len__(self) -> int:
            return len(data.train)

        def image(self, part: Any, index: int) -> Any:
            pixels = (
                part.images[index]
                if isinstance(part, ImageSet)
                else part[torch.tensor([index])][0][0]
            )
            return self.transform(Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()))

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            if isinstance(data.train, PairSet):
                a, b = data.train.rows[index].tolist()
                return self.image(data.train.a, a), self.image(data.train.b, b)
            return self.image(data.train, index), int(data.train.labels[index])

    return DataLoader(OneByOne(), data.batch_size, shuffle=True)


def plain_optimizer(cfg: DictConfig, parameters: Iterable[Any]) -> Any:
    """Return the run's optimizer with its settings, but not fused.

    Raises UserError if torch does not have it.
    """
    import torch

    settings: Any = OmegaConf.to_container(cfg.model.optimizer)
    home, _, name = settings["_target_"].rpartition(".")
    if home != "torch.optim":
        raise UserError(
            f"a plain loop has no {name}: choose one of torch.optim, such as model/optimizer=sgd"
        )
    kept = {k: v for k, v in settings.items() if k not in ("_target_", "_partial_", "fused")}
    return getattr(torch.optim, name)(parameters, **kept)


def plain_gan_rate(cfg: DictConfig, data: Any) -> float:
    """Return images per second of the plain GAN loop."""
    import torch
    from torchvision import transforms

    from src.engine import build

    torch.manual_seed(cfg.seed)
    model: Any = build.model(cfg, data).to(device_of(cfg), memory_format=torch.contiguous_format)
    g, d, loss = model.generator, model.discriminator, model.loss
    d_optimizer, g_optimizer = (plain_optimizer(cfg, net.parameters()) for net in (d, g))
    clock = Clock(cfg.bench.warmup, cfg.bench.batches)
    while True:
        for step, (real, labels) in enumerate(batches(cfg, data, transforms.Normalize(0.5, 0.5))):
            d = model.discriminator_given(labels)
            fake = g(model.latents(len(real), labels=labels)).detach()
            d_loss = loss.discriminator(d(real), d(fake))
            if loss.gradient_penalty:
                d_loss = d_loss + loss.gradient_penalty * plain_penalty(d, real, fake)
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
            if loss.weight_clip:
                for parameter in model.discriminator.parameters():
                    parameter.data.clamp_(-loss.weight_clip, loss.weight_clip)
            if step % model.n_critic == 0:
                real_logits = d(real) if loss.generator_needs_real_logits else None
                fake_logits = d(g(model.latents(len(real), labels=labels)))
                g_loss = loss.generator(real_logits, fake_logits)
                g_optimizer.zero_grad()
                g_loss.backward()
                g_optimizer.step()
            if clock(len(real)):
                return clock.rate


def plain_penalty(critic: Any, real: Any, fake: Any) -> Any:
    """Return the gradient penalty as tutorials write it."""
    import torch

    mix = torch.rand(len(real), 1, 1, 1, device=real.device)
    x_hat = (mix * real + (1 - mix) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()


def plain_cyclegan_rate(cfg: DictConfig, data: Any) -> float:
    """Return images of each domain per second of a plain CycleGAN loop.

    Each result needs a separate call of a network, as in the authors' code.
    """
    import itertools
    import random

    import torch
    from torch.nn.functional import l1_loss, mse_loss
    from torchvision import transforms

    from src.engine import build

    torch.manual_seed(cfg.seed)
    model: Any = build.model(cfg, data).to(device_of(cfg), memory_format=torch.contiguous_format)
    g, f, d_a, d_b = model.g, model.f, model.d_a, model.d_b
    g_optimizer, d_optimizer = (
        plain_optimizer(cfg, itertools.chain(one.parameters(), other.parameters()))
        for one, other in ((g, f), (d_a, d_b))
    )
    pools: tuple[list[Any], list[Any]] = ([], [])
    clock = Clock(cfg.bench.warmup, cfg.bench.batches)

    def pooled(pool: list[Any], fakes: Any) -> Any:
        passed = []
        for fake in fakes.detach().split(1):
            if len(pool) < cfg.model.pool_size:
                pool.append(fake)
            elif random.random() < 0.5:
                place = random.randrange(len(pool))
                fake, pool[place] = pool[place], fake
            passed.append(fake)
        return torch.cat(passed)

    def judged(scores: Any, real: bool) -> Any:
        return mse_loss(scores, torch.full_like(scores, float(real)))

    while True:
        for a, b in batches(cfg, data, transforms.Normalize(0.5, 0.5)):
            fake_b, fake_a = g(a), f(b)
            back_a, back_b = f(fake_b), g(fake_a)
            cycle = l1_loss(back_a, a) + l1_loss(back_b, b)
            identity = l1_loss(g(b), b) + l1_loss(f(a), a) if cfg.model.lambda_identity else 0.0
            g_loss = (
                judged(d_b(fake_b), True)
                + judged(d_a(fake_a), True)
                + cfg.model.lambda_cycle * (cycle + cfg.model.lambda_identity * identity)
            )
            g_optimizer.zero_grad()
            g_loss.backward()
            g_optimizer.step()
            d_optimizer.zero_grad()
            for d, real, fake in (
                (d_a, a, pooled(pools[0], fake_a)),
                (d_b, b, pooled(pools[1], fake_b)),
            ):
                (0.5 * (judged(d(real), True) + judged(d(fake), False))).backward()
            d_optimizer.step()
            if clock(len(a)):
                return clock.rate


def plain_draw_rate(cfg: DictConfig, data: Any) -> float:
    """Return images per second of the plain DRAW loop."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from src.engine import build
    from src.nets.draw_reference import draw

    torch.manual_seed(cfg.seed)
    model: Any = build.model(cfg, data).to(device_of(cfg))
    optimizer = plain_optimizer(cfg, model.parameters())
    clock = Clock(cfg.bench.warmup, cfg.bench.batches)
    while True:
        for x, _ in batches(cfg, data):
            eps = torch.randn(model.net.num_steps, len(x), model.net.latent_dim, device=x.device)
            logits, kl = draw(model.net, x, eps)
            nll = binary_cross_entropy_with_logits(logits, x, reduction="sum")
            loss = (nll + kl.sum()) / len(x)
            optimizer.zero_grad()
            loss.backward()
            for parameter in model.parameters():
                torch.nn.utils.clip_grad_norm_(parameter, cfg.model.clip_norm or float("inf"))
            optimizer.step()
            if clock(len(x)):
                return clock.rate


def plain_classifier_rate(cfg: DictConfig, data: Any) -> float:
    """Return images per second of the plain classifier loop, with the run's crops and flips."""
    import torch
    from torchvision import transforms

    from src.engine import build
    from src.losses import classification_loss
    from src.nets.winograd import Conv2d

    torch.manual_seed(cfg.seed)
    model: Any = build.model(cfg, data).to(device_of(cfg))
    net = model.net.to(memory_format=torch.contiguous_format).train()
    for layer in net.modules():
        if isinstance(layer, Conv2d):
            layer.is_suitable = False  # PyTorch's convolutions
    optimizer = plain_optimizer(cfg, net.parameters())
    changes: list[Any] = [transforms.Normalize([0.5] * data.channels, [0.5] * data.channels)]
    if "translation" in cfg.augment:
        shift = cfg.augment.translation.max_shift  # below 1: a fraction of the sides
        padding = int(shift if shift >= 1 else shift * min(data.size))
        changes.append(transforms.RandomCrop(data.size, padding=padding))
    if "flip" in cfg.augment:
        changes.append(transforms.RandomHorizontalFlip(cfg.augment.flip.p))
    clock = Clock(cfg.bench.warmup, cfg.bench.batches)
    while True:
        for images, labels in batches(cfg, data, *changes):
            images = images.expand(-1, model.in_channels, -1, -1)  # gray to color, if it needs that
            loss = classification_loss(net(images), labels, model.aux_weight, 0.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if clock(len(images)):
                return clock.rate


# keyed by the name of the class: importing the classes would take time
PLAIN: dict[str, Callable[[DictConfig, Any], float]] = {
    "src.models.gan.GAN": plain_gan_rate,
    "src.models.cyclegan.CycleGAN": plain_cyclegan_rate,
    "src.models.draw.DRAW": plain_draw_rate,
    "src.models.classifier.Classifier": plain_classifier_rate,
}
# transforms of augment that a plain loop applies; the others leave all of them out
PLAIN_AUGMENTATIONS = {"src.models.classifier.Classifier": {"translation", "flip"}}

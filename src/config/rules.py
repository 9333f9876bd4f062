"""What each setting may be. A setting means the same wherever it stands, so a rule goes by its name, or by a longer tail
of its dotted path where that is needed. A setting without a rule does not exist: an unknown key is an error.

A rule takes a value and returns None, or what is allowed instead.
"""

import re
from collections.abc import Callable
from typing import Any

from PIL import ImageColor

Rule = Callable[[Any], str | None]
LIMIT = 2.0**63  # which torch's whole numbers stay below; not nan, nor inf
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


_COLOUR = "a colour's name, '#rrggbb', or [red, green, blue] from 0 to 255"


def integer(low: int | None = None, high: int | None = None) -> Rule:
    """A whole number from `low` to `high`, both included."""
    return _number(int, "a whole number", low, high, False)


def real(low: float | None = None, high: float | None = None, below: bool = False) -> Rule:
    """A number from `low` to `high`; `below` shuts `high` itself out."""
    return _number((int, float), "a number", low, high, below)


def positive(value: Any) -> str | None:
    """A number above 0."""
    return None if real()(value) is None and value > 0 else "a number above 0"


def flag(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "true or false"


def text(value: Any) -> str | None:
    """Any words, not empty."""
    return None if isinstance(value, str) and value and "\0" not in value else "text"


def picture(value: Any) -> str | None:
    """The name of a picture file in a format that Pillow writes."""
    fits = isinstance(value, str) and value.lower().endswith(PICTURES)
    return None if fits else f"a name that ends in one of {', '.join(PICTURES)}"


def colour(value: Any) -> str | None:
    """A colour that Pillow knows by its name or notation, or three numbers."""
    if list_of(integer(0, 255), 3)(value) is None:
        return None
    try:
        return None if isinstance(value, str) and ImageColor.getrgb(value) else _COLOUR
    except ValueError:
        return _COLOUR


def duration(value: Any) -> str | None:
    """Days, hours, minutes and seconds, as Lightning's Timer reads them."""
    fits = isinstance(value, str) and re.fullmatch(r"\d+:\d\d:\d\d:\d\d", value)
    return None if fits else "DD:HH:MM:SS"


def one_of(*choices: Any) -> Rule:
    """One of `choices`."""
    words = ", ".join(
        str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices
    )
    return lambda value: (
        None if any(value == c and type(value) is type(c) for c in choices) else f"one of {words}"
    )


def maybe(rule: Rule) -> Rule:
    """`rule`, or null."""

    def check(value: Any) -> str | None:
        allowed = None if value is None else rule(value)
        return allowed and f"{allowed}, or null"

    return check


def either(*rules: Rule) -> Rule:
    """What any of `rules` allows."""

    def check(value: Any) -> str | None:
        allowed = [rule(value) for rule in rules]
        return None if None in allowed else ", or ".join(a for a in allowed if a)

    return check


def list_of(rule: Rule, length: int | None = None, empty: bool = False) -> Rule:
    """A list whose every member `rule` allows; without any only where `empty` says so."""

    def check(value: Any) -> str | None:
        fits = (
            isinstance(value, list)
            and (empty or len(value) > 0)
            and (length is None or len(value) == length)
        )
        bad = [allowed for member in value if (allowed := rule(member))] if fits else []
        return (
            None
            if fits and not bad
            else f"a list of {length or 'any number of'} members: {rule(object())}"
        )

    return check


def _number(
    kind: type | tuple[type, ...], words: str, low: float | None, high: float | None, below: bool
) -> Rule:
    span = (
        ""
        if low is None
        else f" from {low}"
        if high is None
        else f" from {low} to {'just below ' if below else ''}{high}"
    )

    def check(value: Any) -> str | None:
        right = isinstance(value, kind) and not isinstance(value, bool)
        inside = (
            right
            and -LIMIT < value < LIMIT
            and (low is None or value >= low)
            and (high is None or (value < high if below else value <= high))
        )
        return None if inside else words + span

    return check


BATCHES = maybe(
    either(integer(1), real(0, 1))
)  # Lightning's limit_*: so many batches, or that fraction

RULES: dict[str, Rule] = {
    # train.yaml
    "seed": maybe(integer(0, 2**63 - 1)),  # null: of evaluate alone, see src.config.checks
    "data.seed": integer(0, 2**63 - 1),
    "out": text,
    "resume": maybe(text),
    "test": flag,
    "on_nonfinite": one_of("stop", "warn"),
    "cache": text,
    "every_n_batches": integer(1),
    "checkpoint.every_n_batches": maybe(integer(1)),
    # data
    "name": text,
    "data.size": either(integer(1, 4096), list_of(integer(1, 4096), 2)),
    "size": maybe(either(integer(1, 4096), list_of(integer(1, 4096), 2))),
    "channels": one_of(1, 3),
    "num_classes": maybe(integer(1)),
    "root": maybe(text),
    "root_a": maybe(text),
    "root_b": maybe(text),
    "content": maybe(text),
    "style": maybe(text),
    "data.cache": maybe(text),
    "classes": maybe(either(one_of("breeds", "species"), list_of(either(text, integer())))),
    "batch_size": integer(1),
    "eval_batch_size": integer(1),
    "train_size": maybe(integer(1)),
    "train_per_class": maybe(integer(1)),
    "val_size": either(integer(0), real(0, 1, below=True)),
    "test_size": either(integer(0), real(0, 1, below=True)),
    "split_seed": integer(0),
    "limit": maybe(integer(1)),
    "background": colour,
    "in_memory": one_of("auto", True, False),
    "workers": integer(0, 256),
    "download": flag,
    "permute": flag,
    "binarize": flag,
    "samples_every_n_batches": integer(1),
    "left_out": maybe(integer(0)),
    "epochs": integer(1),
    # augment
    "p": real(0, 1),
    "vertical": flag,
    "degrees": real(0, 180),
    "min_scale": positive,
    "max_scale": positive,
    "max_shift": positive,
    "max_change": positive,
    "max_std": positive,
    "max_fraction": positive,
    "whole_pixels": flag,
    "min_area": real(0, 1),
    "max_aspect": real(1),
    "mixup.alpha": positive,
    "cutmix.alpha": positive,
    "box_fraction": real(0, 1),
    "border": one_of("constant", "edge", "reflect", "symmetric", "wrap"),
    "interpolation": one_of("bilinear", "nearest"),
    "fill": real(0, 1),
    "factor": integer(2, 1000),
    "preview": maybe(text),
    "augment.run": either(text, list_of(text)),
    "to": one_of("a", "b"),
    # models
    "latent": integer(1),
    "latent_distribution": one_of("uniform", "normal"),
    "n_critic": integer(1),
    "discriminator_lr": maybe(positive),
    "ema": real(0, 1, below=True),
    "init": one_of("default", "kaiming", "xavier", "normal", "dirac"),
    "spectral_norm": flag,
    "hidden_dims": list_of(integer(1)),
    "model.net.hidden_dims": list_of(integer(1), empty=True),
    "hidden": list_of(integer(1)),
    "width": integer(1),
    "base_channels": integer(1),
    "embedding_dim": integer(1),
    "slope": real(0, 1),
    "features": list_of(either(integer(1), one_of("M", "D")), empty=True),
    "kernel": integer(1),
    "padding": integer(0),
    "dropout": either(real(0, 1, below=True), list_of(real(0, 1, below=True), 2)),
    "depth": integer(2),
    "growth_rate": integer(1),
    "aux_logits": flag,
    "init_weights": flag,
    "mean": maybe(either(real(0, 1), list_of(real(0, 1)))),
    "std": maybe(either(positive, list_of(positive))),
    "decay_all": flag,
    "aux_weight": real(0),
    "whiten": flag,
    "mirror": flag,
    "shift": integer(0),
    "norm_bias_lr": positive,
    "init_from": maybe(text),
    "freeze": either(one_of("none", "backbone"), integer(1)),
    "unfreeze_epoch": maybe(integer(1)),
    "backbone_lr": positive,
    "norm": one_of("batch", "layer", "none"),
    "num_steps": integer(1),
    "steps": integer(1),
    "encoder": integer(1),
    "decoder": integer(1),
    "read": integer(1),
    "write": integer(1),
    "sigma": positive,
    "spread": positive,
    "intensity": positive,
    "learn_initial": flag,
    "forget_bias": real(-10, 10),
    "clip_norm": maybe(positive),
    "lambda_cycle": real(0),
    "lambda_identity": real(0),
    "pool_size": integer(0),
    "n_blocks": maybe(integer(1)),
    "n_downsampling": maybe(integer(1, 2)),
    "residual": flag,
    "n_layers": maybe(integer(1)),
    "pooling": one_of("max", "average"),
    "init_image": one_of("content", "noise"),
    "content_layers": list_of(text),
    "style_layers": list_of(text),
    "content_weight": real(0),
    "style_weight": real(0),
    "tv_weight": real(0),
    "vocab_size": maybe(integer(1)),
    "window": integer(1),
    "negatives": integer(1),
    "subsample": maybe(positive),
    "dynamic_window": flag,
    "freeze_vectors": flag,
    "compile": flag,
    # losses
    "label_smoothing": real(0, 1, below=True),
    "gradient_penalty": real(0),
    "weight_clip": maybe(positive),
    # optimisers and schedules
    "lr": positive,
    "betas": list_of(real(0, 1, below=True), 2),
    "eps": positive,
    "alpha": real(0, 1),
    "momentum": real(0, 1),
    "nesterov": flag,
    "amsgrad": flag,
    "centered": flag,
    "weight_decay": real(0),
    "fused": flag,
    "foreach": flag,
    "filter_lr": positive,
    "filter_momentum": real(0, 1, below=True),
    "max_iter": integer(1),
    "history_size": integer(1),
    "tolerance_grad": real(0),
    "tolerance_change": real(0),
    "line_search_fn": maybe(one_of("strong_wolfe")),
    "start": real(0, 1, below=True),
    "min_factor": real(0, 1),
    "end": real(0, 1),
    "schedule.warmup": real(0, 1, below=True),
    "milestones": list_of(real(0, 1)),
    "gamma": positive,
    "monitor": text,
    "mode": one_of("min", "max"),
    "patience": integer(0),
    "min_delta": real(0),
    # Trainer
    "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "devices": either(one_of("auto", -1), integer(1), list_of(integer(0))),
    "num_nodes": integer(1),
    "strategy": text,
    "precision": one_of("auto", "32-true", "bf16-mixed", "16-mixed"),
    "max_epochs": integer(1),
    "max_time": maybe(duration),
    "limit_train_batches": BATCHES,
    "limit_val_batches": maybe(either(integer(0), real(0, 1))),
    "limit_test_batches": BATCHES,
    "check_val_every_n_epoch": integer(1),
    "num_sanity_val_steps": integer(-1),
    "log_every_n_steps": integer(1),
    "gradient_clip_val": maybe(positive),
    "accumulate_grad_batches": integer(1),
    "deterministic": one_of(True, False, "warn"),
    "benchmark": maybe(flag),
    "detect_anomaly": flag,
    # callbacks
    "every_n_seconds": positive,
    "every_n_epochs": maybe(integer(1)),
    "n": maybe(integer(1)),
    **{
        f"{who}.n": integer(1)
        for who in (
            "samples",
            "canvases",
            "quality",
            "explanations",
            "predictions",
            "word_projector",
        )
    },
    "layer": maybe(text),
    "max_layers": integer(1),
    "n_classes": integer(0),
    # evaluate, sample, predict, export, bench, leave_one_out
    "run": text,
    "images": either(text, list_of(text)),
    "top": integer(1),
    "picture": maybe(picture),
    "format": one_of("onnx", "torch"),
    "interpolate": maybe(integer(2)),
    "inception": maybe(flag),
    "quality.inception": flag,
    "iwae_samples": maybe(integer(1)),
    "iwae_rows": integer(1),
    "scale": integer(1, 64),
    "batches": integer(1),
    "warmup": integer(1),
    "rounds": integer(1),
    "seeds": integer(2),
    "vectors": maybe(text),
}


def rule_for(path: str) -> Rule | None:
    """The rule of a dotted path: the longest of its tails that has one."""
    parts = path.split(".")
    return next(
        (RULES[tail] for i in range(len(parts)) if (tail := ".".join(parts[i:])) in RULES), None
    )

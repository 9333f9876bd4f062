"""Start a classifier of sentences from the word vectors that another run learned."""

from pathlib import Path

import torch

from src import run
from src.data.reviews import same_words
from src.errors import UserError
from src.models.sentiment import Sentiment


def transfer_words(model: Sentiment, words: list[str]) -> str:
    """Bring the vectors of the run model.init_from into `model`; returns a line that says so.

    Raises UserError where that is no run of model=word_vectors, or its vectors are not of these `words` or of another width.
    """
    folder = Path(str(model.init_from)).expanduser()
    family = run.config_of(folder).model._target_.rpartition(".")[2]
    if family != "WordVectors":
        raise UserError(f"model.init_from={folder} holds a {family}: it takes the run of model=word_vectors")
    checkpoint = run.load_checkpoint(run.last_checkpoint(folder))
    theirs, ours = checkpoint["state_dict"]["centre.weight"], model.vectors.weight
    same_words(checkpoint["Reviews"]["words"], words, f"model.init_from={folder} learned", "the data have")
    if theirs.shape != ours.shape:
        raise UserError(
            f"model.width={ours.shape[1]} does not fit model.init_from={folder}, whose vectors have {theirs.shape[1]}"
        )
    with torch.no_grad():
        ours[1:] = theirs[1:]  # 0 is no word
    return f"vectors of {len(words)} words from {folder}"

"""scikit-learn's bundled digits: 1,797 real 8 x 8 scans, no download."""

import torch
import torch.nn.functional as F

from src.data.base import ImageData
from src.data.images import ImageSet, Splits, split_off_test


class Digits(ImageData):
    """UCI's optical recognition digits; the test set is cut by `split_seed`, since scikit-learn's copy has none.

    Framed as MNIST's are: 20 x 20 (bicubic) in the middle of 28 x 28, so that nets made for MNIST see all of a digit. At 8 x 8
    they would fill the frame to its edges, which a convolution without padding hardly looks at.
    """

    def read(self) -> Splits:
        from sklearn.datasets import load_digits  # a second to import: only this set pays it

        digits = load_digits()
        scans = (
            torch.from_numpy(digits.images).float().div(16).unsqueeze(1)
        )  # 0..16 -> (N, 1, 8, 8) in [0, 1]
        larger = F.interpolate(scans, (20, 20), mode="bicubic").clamp(0, 1)
        pixels = F.pad(larger, (4, 4, 4, 4)).mul(255).round().byte()  # (N, 1, 28, 28)
        images = ImageSet(pixels, torch.from_numpy(digits.target).long())
        return split_off_test(images, self.test_size, self.split_seed, self.name)

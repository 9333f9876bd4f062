"""scikit-learn's bundled digits: 1,797 real 8 x 8 scans, no download."""

import torch

from src.data.base import ImageData, ImageSet, Splits, cut_test


class Digits(ImageData):
    """UCI's optical recognition digits; the test set is cut by `split_seed`, since scikit-learn's copy has none."""

    def read(self) -> Splits:
        from sklearn.datasets import load_digits  # a second to import: only this set pays it

        digits = load_digits()
        pixels = torch.from_numpy(digits.images).mul(255 / 16).round().byte().unsqueeze(1)  # 0..16 -> (N, 1, 8, 8) 0..255
        images = ImageSet(pixels, torch.from_numpy(digits.target).long())
        return cut_test(images, self.test_size, self.split_seed, self.name)

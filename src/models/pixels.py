"""No network at all."""

from torch import nn


class Pixels(nn.Flatten):
    """The images themselves (B, channels · height · width): what a trained embedding has to beat."""

    features_are_embeddings = True  # so there is no neck

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()

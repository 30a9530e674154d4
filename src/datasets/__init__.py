"""Labelled images, kept on the device as bytes if they fit and read as needed if they do not.

A reader is any callable `reader(root: Path, **options) -> Source`; those of this project are here, and
conf/dataset/ names them. `load` calls one, checks what it returns, sets a validation split apart, and
makes a `Dataset` of it. images.py decodes files to bytes; splits.py turns bytes into normalised float32
batches.
"""

from .augmentation import Augmentation
from .cifar import cifar10, cifar100
from .digits import digits
from .duplicates import duplicates_among
from .embeddings import embeddings
from .files import Files
from .folder import image_folder
from .folds import check_fold
from .huggingface import huggingface
from .ijb import ijb
from .images import BrokenImage
from .landmarks import gldv2
from .loading import check_labels, fingerprint_of, load
from .manifest import manifest
from .mnist import fashion_mnist, kmnist, mnist
from .omniglot import omniglot
from .pairs import pairs
from .recordio import recordio
from .retrieval_sets import cars196, cub, inshop, market1501, sop
from .sharing import share_images
from .splits import Dataset, Dealt, Labelled, Pairs, Source, Split, StreamedSplit
from .synthetic import synthetic, von_mises_fisher
from .webdataset import webdataset

# Their images are the same in whatever root they lie.
for _reader in (digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, omniglot, synthetic):
    _reader.published = True

__all__ = [
    "Augmentation",
    "BrokenImage",
    "Dataset",
    "Dealt",
    "Files",
    "Labelled",
    "Pairs",
    "Source",
    "Split",
    "StreamedSplit",
    "cars196",
    "check_fold",
    "check_labels",
    "cifar10",
    "cifar100",
    "cub",
    "digits",
    "duplicates_among",
    "embeddings",
    "fashion_mnist",
    "fingerprint_of",
    "gldv2",
    "huggingface",
    "ijb",
    "image_folder",
    "inshop",
    "kmnist",
    "load",
    "manifest",
    "market1501",
    "mnist",
    "omniglot",
    "pairs",
    "recordio",
    "share_images",
    "sop",
    "synthetic",
    "von_mises_fisher",
    "webdataset",
]

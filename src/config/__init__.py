"""The typed configuration: the only place that knows a key.

Hydra composes YAML, `read` makes the typed tree of it, and everything else says `config.optimizer.lr`.
"""

from .errors import BadKey, Mistakes
from .identity import computed, differences, identity, setting
from .read import checked, read
from .tree import Config

__all__ = [
    "BadKey",
    "Config",
    "Mistakes",
    "checked",
    "computed",
    "differences",
    "identity",
    "read",
    "setting",
]

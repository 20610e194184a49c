from ._version import __version__
from .backbone import TitansBackbone
from .config import TitansConfig
from .exceptions import TitansSeqError
from .nn.memory import NeuralMemory
from .nn.state import MemoryState

__all__ = [
    "MemoryState",
    "NeuralMemory",
    "TitansBackbone",
    "TitansConfig",
    "TitansSeqError",
    "__version__",
]

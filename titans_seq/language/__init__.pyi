from .byte_model import TitansByteModel
from .recall_model import TitansRecall

__all__ = [
    "TitansByteModel",
    "TitansRecall",
]

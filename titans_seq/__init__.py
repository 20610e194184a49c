"""Titans for long sequences: a memory that goes on learning while it reads.

Names are loaded on first use (PEP 562), so that ``import titans_seq`` loads no torch.
"""

import lazy_loader

# The names and their modules are listed once, in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

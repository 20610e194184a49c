"""Training on Lightning, for all models; modules are loaded on first use."""

import lazy_loader

# The names and their modules are listed once, in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

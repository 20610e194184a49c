"""Pure functions of tensors: the mathematics of the memory and of attention."""

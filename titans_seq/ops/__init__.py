"""Pure functions of tensors: the mathematics of the memory and of attention.

:func:`titans_seq.ops.memory.learn_and_read` runs a call by the fastest back end that can:

============  ======  ========  ===================  ======
rule          depth   CPU       CPU, torch.compile   CUDA
============  ======  ========  ===================  ======
titans        1-2     compiled  operator             triton
titans        3-4     compiled  operator             torch
titans-exact  1       compiled  operator             triton
gated-delta   1       compiled  operator             triton
ttt           1-4     torch     torch                torch
yaad          1-4     torch     torch                torch
moneta        1-4     torch     torch                torch
omega         1-4     torch     torch                torch
muon          1-4     torch     torch                torch
============  ======  ========  ===================  ======

``compiled`` is the C code of ``ops/cpu``, ``operator`` the same code as an operator of torch,
``triton`` the kernels of ``ops/gpu``, ``torch`` the general form of ``ops/general``, which runs
everything else: other devices, CUDA under ``torch.compile``, masked rows at different positions,
and every rule where the package was built without a C compiler or without triton.
"""

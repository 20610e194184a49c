"""Kinds of runs: what a recipe trains, on what, and how that is scored.

========== ======================================================= ============================
family     what is done                                            usual for
========== ======================================================= ============================
windows    every window of the test part is forecast               ``TitansForecaster``
m4         the last values of each series, by the M4 rules         the same, on a competition
labels     every sequence of the test part is given a class        ``TitansDNAClassifier``
scan       a genome of any length is read window by window         (named by the recipe)
next-base  bases are told from those before them                   ``TitansDNALanguage``
bytes      a text is learnt byte by byte, read on and continued    ``TitansByteModel``
recall     facts are asked for far behind the window               ``TitansRecall``
========== ======================================================= ============================

Each is a module here with one class, a :class:`~titans_seq.evaluation.families.protocol.Head`;
:mod:`~titans_seq.evaluation.families.registry` finds it.
"""

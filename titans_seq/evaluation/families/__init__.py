"""Families of recipe runs: the data, training, scores and controls of each kind of benchmark.

========== ======================================================= ============================
family     task                                                    default of the estimator
========== ======================================================= ============================
windows    forecasts of every window of the test part              ``TitansForecaster``
m4         forecasts of a competition, scored by the M4 rules      the same, on a competition
labels     classification of DNA sequences                         ``TitansDNAClassifier``
scan       classification along a genome of any length             (named by the recipe)
next-base  language model of a genome                              ``TitansDNALanguage``
bytes      language model of a text, byte by byte                  ``TitansByteModel``
recall     associative recall beyond the attention window          ``TitansRecall``
========== ======================================================= ============================

Each is a module here with one class, an
:class:`~titans_seq.evaluation.families.protocol.Experiment`, which
:mod:`~titans_seq.evaluation.families.registry` imports when it is needed.
"""

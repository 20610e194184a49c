from .estimator import TitansDNAClassifier
from .explaining import Explanation, explain
from .learning.language import LanguageConfig
from .learning.pretraining import PretrainSettings
from .pretraining import Pretrained, pretrain
from .reading.fasta import FastaRecord, read_fasta
from .reading.labels import LabelledSequences, read_labelled, read_labels, read_sequences
from .regressor import TitansDNARegressor

__all__ = [
    "Explanation",
    "FastaRecord",
    "LabelledSequences",
    "LanguageConfig",
    "PretrainSettings",
    "Pretrained",
    "TitansDNAClassifier",
    "TitansDNARegressor",
    "explain",
    "pretrain",
    "read_fasta",
    "read_labelled",
    "read_labels",
    "read_sequences",
]

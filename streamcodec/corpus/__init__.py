"""Corpora as tokens: recordings of many kinds to data sets of codes, and these to torch.

- `tokenize`: what `streamcodec tokenize` does.
- `TokenDataset`: reads it.
"""

from .dataset import TokenBatch, TokenDataset, TokenItem
from .items import Failure
from .job import Progress, tokenize
from .statistics import Statistics

__all__ = ["Failure", "Progress", "Statistics", "TokenBatch", "TokenDataset", "TokenItem", "tokenize"]

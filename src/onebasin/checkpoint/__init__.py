"""Checkpoints: read and write safetensors and torch pickles, single or in shards, one tensor at a time."""

from onebasin.checkpoint.reader import Checkpoint as Checkpoint
from onebasin.checkpoint.reader import open_checkpoint as open_checkpoint
from onebasin.checkpoint.source import Source as Source
from onebasin.checkpoint.source import Spec as Spec
from onebasin.checkpoint.source import as_given as as_given
from onebasin.checkpoint.source import check_finite as check_finite
from onebasin.checkpoint.source import load_params as load_params
from onebasin.checkpoint.source import specs as specs
from onebasin.checkpoint.source import tied_names as tied_names
from onebasin.checkpoint.writer import save_checkpoint as save_checkpoint

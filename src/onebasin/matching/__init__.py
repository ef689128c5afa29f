"""Find the element of a symmetry group that brings one network into the coordinates of another, or many into one."""

from onebasin.matching.activation import Activations as Activations
from onebasin.matching.activation import activation_similarity as activation_similarity
from onebasin.matching.learned import learn_matching as learn_matching
from onebasin.matching.learned import learn_universe as learn_universe
from onebasin.matching.many import Universe as Universe
from onebasin.matching.many import match_many as match_many
from onebasin.matching.methods import METHODS as METHODS
from onebasin.matching.pair import match as match

__all__ = [
    "METHODS",
    "Activations",
    "Universe",
    "activation_similarity",
    "learn_matching",
    "learn_universe",
    "match",
    "match_many",
]

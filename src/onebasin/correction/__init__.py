"""Correct a merged network: what averaging damages, and what data, or none, can repair of it."""

from onebasin.correction.batchnorm import reestimate_batchnorm as reestimate_batchnorm
from onebasin.correction.choose import METHODS as METHODS
from onebasin.correction.choose import Method as Method
from onebasin.correction.choose import correct as correct
from onebasin.correction.choose import restore_batchnorm as restore_batchnorm
from onebasin.correction.classes import ClassAccuracies as ClassAccuracies
from onebasin.correction.classes import class_accuracies as class_accuracies
from onebasin.correction.datafree import calibrate_biases as calibrate_biases
from onebasin.correction.datafree import rescale_from_weights as rescale_from_weights
from onebasin.correction.expand import Expansion as Expansion
from onebasin.correction.expand import expand as expand
from onebasin.correction.refit import refit as refit
from onebasin.correction.repair import repair as repair
from onebasin.correction.repair import rescale as rescale
from onebasin.correction.result import Correction as Correction

__all__ = [
    "METHODS",
    "ClassAccuracies",
    "Correction",
    "Expansion",
    "Method",
    "calibrate_biases",
    "class_accuracies",
    "correct",
    "expand",
    "reestimate_batchnorm",
    "refit",
    "repair",
    "rescale",
    "rescale_from_weights",
    "restore_batchnorm",
]

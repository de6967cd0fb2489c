"""Fine-tuning: the last stages of a network, trained on the matches of a training set.

What comes out is a file of weights under the library's own names, and vectorizes as any
other does.
"""

from tllboost.finetune.images import Augmentation
from tllboost.finetune.settings import FineTuneSettings, trained_on
from tllboost.finetune.train import finetune

__all__ = ["Augmentation", "FineTuneSettings", "finetune", "trained_on"]

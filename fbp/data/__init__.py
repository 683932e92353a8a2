"""Real data sets, offline, checked by hash, in fixed parts for training, choosing and reporting."""

from fbp.data.dataset import Dataset as Dataset
from fbp.data.dataset import Split as Split
from fbp.data.load import load as load

"""Published edits and readings of the backward pass, for models that stay as they are."""

from fbp.gallery.batches import NoiseScale as NoiseScale
from fbp.gallery.batches import batch_variance as batch_variance
from fbp.gallery.batches import clipped_gradient as clipped_gradient
from fbp.gallery.batches import dp_sgd_gradient as dp_sgd_gradient
from fbp.gallery.batches import gradient_noise_scale as gradient_noise_scale
from fbp.gallery.batches import per_example_gradients as per_example_gradients
from fbp.gallery.batches import per_example_norms as per_example_norms
from fbp.gallery.curvature import KroneckerFactors as KroneckerFactors
from fbp.gallery.curvature import diagonal_ggn as diagonal_ggn
from fbp.gallery.curvature import hutchinson_diagonal as hutchinson_diagonal
from fbp.gallery.curvature import kfac_factors as kfac_factors
from fbp.gallery.per_example import Examples as Examples
from fbp.gallery.per_example import examples as examples

import pytest

from fbp import nn

MAKERS = [nn.max_pool, nn.average_pool, lambda *args, **kwargs: nn.conv(2, *args, **kwargs)]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("window", "strides"),
    [((), None), ((2, 2, 2), None), ((2, 2), (1,)), ((0,), (1,)), ((2,), (0,)), ((2,), (-1,))],
)
def test_windows_and_strides_have_one_positive_size_for_each_spatial_axis(make, window, strides):
    with pytest.raises(nn.LayerError, match="one size of 1 or more for each spatial axis"):
        make(window, strides=strides)

"""Every method agrees with its formula, derived by hand, in every framework."""

import jax
import pytest

from benchmarks import gallery
from benchmarks.gallery_networks import NETWORKS
from tests.support.clients import client

MODULES = {"Linen": "flax.linen", "nnx": "flax.nnx", "Equinox": "equinox", "Haiku": "haiku"}
EXACT = 1e-12


@pytest.fixture(scope="module")
def networks():
    with jax.enable_x64(True):
        yield {}


def network(networks, name):
    if name in MODULES:
        client(MODULES[name])
    if name not in networks:
        networks[name] = NETWORKS[name]()
    return networks[name]


@pytest.mark.usefixtures("x64", "standard_promotion")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", gallery.METHODS)
def test_method_agrees_with_its_formula(method, name, networks):
    assert gallery.error(gallery.METHODS[method], network(networks, name)) < EXACT


@pytest.mark.parametrize("method", gallery.METHODS)
def test_method_is_short(method):
    assert gallery.lines(gallery.METHODS[method].code) <= gallery.LINES

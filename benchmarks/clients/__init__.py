"""Small programs of libraries that call JAX's transforms themselves."""

from benchmarks.clients import inference, science, training
from benchmarks.clients.client import Client as Client

CLIENTS = training.CLIENTS | inference.CLIENTS | science.CLIENTS

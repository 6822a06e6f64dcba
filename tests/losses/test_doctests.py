"""Every public loss shows an example, and every example holds."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

from sea_jax import losses

MODULES = [f"sea_jax.losses.{module.name}" for module in pkgutil.iter_modules(losses.__path__)]


@pytest.mark.parametrize("name", [*MODULES, "sea_jax.arrays", "sea_jax.adjacency", "sea_jax.diagnostics"])
def test_examples_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("name", losses.__all__)
def test_every_public_loss_has_an_example_its_arguments_and_what_it_returns(name):
    text = inspect.getdoc(getattr(losses, name))
    assert ">>> " in text
    assert "\nArgs:\n" in text
    assert "\nReturns: " in text

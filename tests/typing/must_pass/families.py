"""Published models: the class that is asked for is the type of what is loaded, and any decoder writes texts."""

import tempfile
from typing import assert_type

import jax.numpy as jnp

import graphnode as gn
from graphnode.families import LanguageModel, Llama

with tempfile.TemporaryDirectory() as directory:
    gn.families.save(Llama(5, 4, 1, 2, hidden_size=4), directory, config={"eos_token_id": 2})
    llama = gn.families.load(directory, Llama, dtype=jnp.bfloat16, scan=True)
    assert_type(llama, Llama)
    assert_type(gn.families.load(directory, LanguageModel), LanguageModel)
    assert_type(gn.families.load(directory), gn.nn.Module)
    assert_type(gn.families.abstract(directory, Llama), Llama)
    assert_type(gn.families.abstract(directory), gn.nn.Module)

assert_type(gn.nn.generate(llama, jnp.array([[1]]), 2), gn.nn.Generated)

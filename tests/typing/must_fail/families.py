"""What published models are not."""

import graphnode as gn

model = gn.families.load("models/llama", gn.families.Llama)
model.num_blocks  # E: it is num_layers
gn.families.load("models/llama", gn.Node)  # E: not a model that is called
gn.families.save({"model": model}, "models/again")  # E: one model

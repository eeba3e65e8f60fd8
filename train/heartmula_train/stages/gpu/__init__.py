"""The language model on a GPU: a step is one graph, songs are made beside the training.

`rows` says what a song is to the model, `songs` makes them, `store` holds them on the device, `losses` is the forward
pass in fixed shapes, `muon` and `step` are the update, `train` the loop.
"""

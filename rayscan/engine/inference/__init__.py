"""Frozen networks, fast: `fast_net` takes the engine, `features` goes over images while others are decoded.

Three engines compute the same network on uint8 pixels: OpenVINO, torch.compile and plain torch (`choice`
takes one of them). Batches are cut into chunks of one size, so that a row's bits do not depend on how many
are asked for.
"""

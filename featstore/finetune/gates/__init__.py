"""What a fine-tuned backbone must pass before it is a model: one room a gate, each returning its outcome.

``gain`` is what it is there for, ``forgetting`` what it may not cost, ``parity`` whether the exported graph is the
network that was trained, ``geometry`` whether the vectors still fill their space, ``latency`` whether it is as fast.
"""

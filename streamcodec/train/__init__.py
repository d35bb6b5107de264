"""Training codecs: ``streamcodec train`` and docs/training.md.

``config`` has the settings; ``data``, ``augment``, ``pack`` and ``token_audio`` the audio; ``losses``,
``discriminator``, ``adversary``, ``balancer``, ``quantizer`` and ``factorised`` the objective; ``model`` the networks;
``trainer`` an update, ``loop`` a run, ``shards`` its checkpoints, ``distributed`` its processes, ``board`` TensorBoard;
``build`` puts a run together and exports it.
"""

"""Training and measuring codecs: ``python -m streamcodec.train --help`` and docs/training.md.

``data`` reads audio, ``losses`` and ``quantizer`` are the parts of the objective, ``initialise`` scales fresh weights,
``loop`` trains, ``build`` puts a training together and writes its codec, ``evaluate`` measures one.
"""

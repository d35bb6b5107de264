"""Measuring codecs beside others on the same recordings: ``streamcodec evaluate`` and docs/measuring.md.

``recording`` has what is passed on; ``measured``, ``opus``, ``lyra`` and ``folder`` are the systems: each turns a
recording into what comes out of a codec. ``measures`` and ``words`` compare that with the recording; ``evaluation``
runs it all, ``table`` sums it up, ``spectrogram`` draws it.
"""

"""Finding settings without a label: what to try, how to score it, which one to keep.

Comes before nothing and after a whole run: trials read what index, pretext, embed and mine left behind.
"""

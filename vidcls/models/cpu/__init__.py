"""Forms of convolution, attention and recomputation that suit XLA's CPU backend; `vidcls.models.layers` chooses them.

Nothing here imports the rest of `vidcls.models`.
"""

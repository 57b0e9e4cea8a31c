"""Exports a trained network: as a folder that runs without this library, or as a folder for the Hugging Face hub.

`network` makes the network one function from frames to probabilities, and `formats` writes this function as a file.
`folder` checks the file, and puts beside it what the file's users need, such as the code that `script` writes.
`vidcls.runtimes` opens such folders. `hub` writes weights and a model card.
"""

"""Takes a trained network away: a folder that runs without this library, or one for the Hugging Face hub.

`network` is the network as one function from frames to probabilities, `formats` writes it as a file of each format, `folder`
checks the file and puts beside it what its users need, and `script` has the code among that. `vidcls.runtimes` opens such
folders. `hub` writes weights and a model card.
"""

"""Files that `vidcls.export` wrote -> functions of frames, each run by its own library, without the network's code.

`description` has what stands beside such a file, in `export.json`; `opening` has the four libraries. A file of this kind is a
program: what it may do is bounded here (`opening`), and its arithmetic is not.
"""

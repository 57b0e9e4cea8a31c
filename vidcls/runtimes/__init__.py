"""Opens files that `vidcls.export` wrote. Each is run by its format's own library, without the code of the network.

`description` reads `export.json`, which stands beside such a file, and `opening` opens the file with one of four
libraries. An exported file is a program. `opening` makes sure that the program can only compute; what it computes is
not checked.
"""

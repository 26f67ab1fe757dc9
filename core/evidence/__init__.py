"""Evidence bundles: what an incident is shown by, sealed so that anyone can check it without Qorgan.

Model: the files of all editions are the leaves of one hash tree (`verify`). A *statement* names the tree's root and is
signed; each edition is a zip with the statement, its own signed *manifest*, its files, and the leaf hashes of what it
leaves out, so editions share one root and neither can be changed to fit the other. A leaf is salted, and the salt
stands only beside the file: nobody can guess at what he was not given.

Guarantees: an archive has exactly one form (stored, fixed times, fixed order), so every byte of it counts; `verify.py`
is in every bundle, needs only Python and the public key, and fails on any change. Nothing here reads a store or a
clock.
"""

"""Train CLIP on image-caption pairs that nobody has vetted, and keep the poison out.

The package is the command-line program: `roclip ...`, `python -m roclip ...`, `torchrun -m roclip train ...`.
"""

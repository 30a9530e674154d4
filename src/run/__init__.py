"""One run, from its configuration to what lies in its folder.

identity.py      which run is it, and which code computes it
schema.py        what a configuration may say
command_line.py  what is typed, and what Hydra says of it
targets.py       the classes that a configuration names
build.py         configuration -> objects
lifecycle.py     claim, resume, train, evaluate, record
resume.py        the checkpoint
artifacts.py     embeddings and figures
folder.py        what lies in a run's folder
load.py          a trained run, rebuilt
evaluation.py    on other data; embedding.py and export.py: in use
pairs.py         which pairs verification looks at
"""

"""One run, from its configuration to what lies in its folder.

folder.py        a run's folder: what lies in it, and the schema of its summary
code.py          which code computes it
command_line.py  the run that was typed, and what its folder may hold before it begins
build.py         configuration -> objects; data.py: its data set; arguments.py: whose error is it
lifecycle.py     claim, resume, train, evaluate, record; epochs.py: an epoch
resume.py        checkpoints
advice.py        what the user is told about sizes, and about training that goes wrong
figures.py       figures, from what lies in a run's folder
upload.py        what W&B shows of it, likewise
load.py          a trained run, rebuilt
evaluation.py    on other data; embedding.py, query.py, outliers.py and export.py: in use
pairs.py         which pairs verification looks at
"""

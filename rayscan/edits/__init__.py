"""Corrections that a person makes to the clusters of a run, and the assignments that follow from them.

operations.py   what an edits.json holds
clusters.py     clusters after some operations
images.py       images as a person names them
rule.py         what that does to rows of assignments
history.py      edits that were applied, kept in the run
result.py       an assign artifact from another one and its edits
applying.py     `rayscan apply`
carried.py      edits where images came or went and the model stayed
rerun.py        edits when stages run again, and when new images are predicted
"""

"""Images in: where they lie, what is in them, and how their bytes become pixels and views.

The way of an image: `listing` finds the files, a format of `sources` scans each of them once, the index
stage stores the rows, `table` is that index in memory, `reader` fetches and decodes by gid, through the
same format. `loader` turns pixels into batches of views. `packing` makes tar shards of a folder; `doctor`
and `verification` examine a collection; `labels` is the only code that reads labels.
"""

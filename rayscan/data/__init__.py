"""Images in: where they lie, what is in them, and how their bytes become pixels and views.

The way of an image: `listing` finds the files, `tar_index` and `inspection` look at every one of them once,
the index stage stores what they saw, `table` is that index in memory, `reader` fetches and decodes by gid.
`loader` turns pixels into batches of views. `shard_writer` makes tar shards of a folder; `labels` is the only
code that reads labels.
"""

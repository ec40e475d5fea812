"""Clusters of frozen features by consensus: a whitened space, many cheap groupings, their vote.

`cluster.consensus` reads as the method goes: `space` (whitening), `views` and `candidates` (groupings),
`score` (label-free), `information_heads` (refinement), `vote`, `second_round`, `ensemble` (for new rows);
`few_clusters` puts the search together, `uneven_clusters` one that leaves sizes free, `many_clusters` one for
more than a hundred clusters.

Everything is linear in N. What is summed over rows is d x d, C x d or C x C, so shards can add their sums;
what is done by rows needs a row and its neighbours.

Letters: N rows, D wide, d principal components, q whitened columns, K neighbours, C clusters, H heads.
"""

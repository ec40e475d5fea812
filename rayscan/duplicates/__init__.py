"""Near-copies and outliers of a collection, from neighbors that are mined already. For `stages.duplicates`.

signatures   32 x 32 grey pixels of an image
alignment    how alike two images are, where one may be a light crop of the other
threshold    from which likeness on two images are near-copies, from the distribution of likenesses
groups       stars of near-copies around a medoid
outliers     how far an image lies from all others
"""

"""How good a grouping is: with labels (scores, neighbor purity) and without (collapse, agreement)."""

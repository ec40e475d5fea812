"""The page that shows what a run found, and the table that compares runs. Pure: data in, text out."""

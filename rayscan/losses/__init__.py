"""Losses: one pure function per file, in the papers' letters, fp32 or better inside."""

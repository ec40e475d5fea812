"""Who feeds images how, for `benchmarks.input`: rayscan and the ways people use instead."""

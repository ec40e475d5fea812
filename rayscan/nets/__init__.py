"""Networks: pixels -> features -> outputs."""

"""Each library that PROM_NAMING names, and web-prom with that naming, measure the same traffic."""

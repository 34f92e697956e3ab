"""Operations of caches: how many, how long, hits, misses and errors, for any cache library."""

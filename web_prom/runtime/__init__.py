"""How full a server is: queues, capacity, event loops, threads and the interpreter of each worker."""

"""`fusewire`, the operators' command line: the admin API in a terminal. Never shipped in the layer, and nothing of the
layer's is imported: it knows the gateway by its HTTP API alone."""

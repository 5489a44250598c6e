"""One file a container: each turns a path, or an object in memory, into a TensorStore."""

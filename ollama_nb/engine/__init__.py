"""The child's side: tokens, batches, sampling. The only part of the package that imports llama_cpp."""

"""What is asked: inputs, labels, spurious correlations, mixtures and the data streams made of them."""

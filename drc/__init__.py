"""Deep Region Competition (Yu et al., NeurIPS 2021): the method, and nothing of how it is benchmarked."""

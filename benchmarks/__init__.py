"""What is run, stored and shown: the tables of the paper, measured here beside the published figures."""

"""How the weights came to be: data, training and the quickstart."""

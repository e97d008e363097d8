"""From a recipe to a trained network, and how good it is."""

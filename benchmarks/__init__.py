"""Speed and memory against plain convolution, as ratios measured in one run."""

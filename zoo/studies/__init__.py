"""Comparisons beside the results: attention branches, detectors."""

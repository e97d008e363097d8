"""What a network attends to: its attention maps, heat maps, and figures.

Values come from `kernel_attention`, `grad_cam` and `ablate`; the functions
that draw them return a `matplotlib.figure.Figure`, which a notebook shows and
`savefig` writes. They need `pip install 'aw-keras[explain]'`.
"""

from aw_keras.explain.ablation import AblatedLayer, Ablation, ablate
from aw_keras.explain.attention import (
    by_class,
    kernel_attention,
    variation,
)
from aw_keras.explain.cam import grad_cam
from aw_keras.explain.figures import (
    plot_ablation,
    plot_grad_cam,
    plot_layer,
    plot_layers,
    plot_overview,
    plot_variation,
)

__all__ = [
    "AblatedLayer",
    "Ablation",
    "ablate",
    "by_class",
    "grad_cam",
    "kernel_attention",
    "plot_ablation",
    "plot_grad_cam",
    "plot_layer",
    "plot_layers",
    "plot_overview",
    "plot_variation",
    "variation",
]

"""The members of a family: functions made from a table, and registered."""

import dataclasses
import inspect
import types

from aw_keras.applications.registry import Entry, get_entry, register
from aw_keras.weights import manifest, store
from aw_keras.weights.private_copy import expecting

#: What every residual network is offered with: the prefix of its name, how
#: its docstring goes on, and other defaults.
VARIANTS = {
    "": ("", {}),
    "AW": (" with AW-convolution", {"conv": "aw"}),
    "SE": (" with squeeze-and-excitation", {"attention": "se"}),
    "CBAM": (" with CBAM", {"attention": "cbam"}),
    "AWSE": (
        " with AW-convolution and squeeze-and-excitation",
        {"conv": "aw", "attention": "se"},
    ),
    "AWCBAM": (
        " with AW-convolution and CBAM",
        {"conv": "aw", "attention": "cbam"},
    ),
}

PAPERS = {
    "resnet": "https://arxiv.org/abs/1512.03385",
    "densenet": "https://arxiv.org/abs/1608.06993",
    "aw": "https://arxiv.org/abs/2108.08205",
    "se": "https://arxiv.org/abs/1709.01507",
    "cbam": "https://arxiv.org/abs/1807.06521",
}


def register_variants(
    general,
    base_name,
    summary,
    fixed,
    *,
    paper,
    family,
    prefixes=tuple(VARIANTS),
    defaults=None,
    published=None,
    weights=None,
    **entry,
):
    """Makes and registers the variants of one network.

    Args:
        general: Function that instantiates any network of its kind, whose
            docstring has a section `Args:`.
        base_name: Name of the plain network.
        summary: First sentence of its docstring, without the full stop.
        fixed: Dict of the arguments of `general` that make this network.
        paper: Key in `PAPERS` of the plain network.
        family: Name of the module that has the functions.
        prefixes: Which of `VARIANTS`.
        defaults: Dict of arguments that have another default in every variant.
        published: Dict from a prefix to the published number of parameters.
        weights: Dict from a prefix to the names that `weights` takes, beside
            those of the released files.
        **entry: Further fields of `Entry` that all variants share.

    Returns:
        A list of functions, one for each prefix.
    """
    published, weights = published or {}, weights or {}

    def registered(prefix):
        ending, kinds = VARIANTS[prefix]
        name = prefix + base_name
        factory = variant(
            general,
            name,
            f"{summary}{ending}.",
            fixed,
            {**(defaults or {}), **kinds},
        )
        factory.__module__ = f"{__package__}.{family}"
        return register(
            Entry(
                name=name,
                factory=factory,
                family=family,
                papers=tuple(PAPERS[k] for k in (paper, *kinds.values())),
                published_parameters=published.get(prefix),
                weights=(*weights.get(prefix, ()), *manifest.newest(name)),
                results=_results(name),
                **entry,
            )
        )

    return [registered(prefix) for prefix in prefixes]


def _results(name):
    return types.MappingProxyType(
        {
            dataset: round(file.top1_mean / 100, 6)
            for dataset, file in manifest.newest(name).items()
        }
    )


def variant(general, name, summary, fixed, defaults):
    """A function that is `general` with some arguments fixed.

    It has a signature and a docstring of its own. Its argument `name` defaults
    to its name in lower case, others to `defaults`. Its argument `weights` also
    takes what was released for it.
    """
    defaults = {"name": name.lower(), **defaults}
    signature = inspect.signature(general)
    signature = signature.replace(
        parameters=[
            parameter.replace(default=defaults.get(key, parameter.default))
            for key, parameter in signature.parameters.items()
            if key not in fixed
        ]
    )

    def build(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        weights = bound.arguments["weights"]
        stored = store.resolve(weights, name)
        if stored is None:
            return general(**fixed, **bound.arguments)
        bound.arguments["weights"] = stored.path
        with expecting(stored.path, stored.verified.sha256):
            model = general(**fixed, **bound.arguments)
        model.weights_receipt = dataclasses.replace(
            model.weights_receipt,
            dataset=stored.file.dataset,
            preprocessing=get_entry(name).preprocessing_of(weights),
            verified=stored.verified,
        )
        return model

    build.__name__ = build.__qualname__ = name
    build.__signature__ = signature
    build.__doc__ = _docstring(general, summary, fixed, defaults)
    return build


def _docstring(general, summary, fixed, defaults):
    _, _, sections = inspect.getdoc(general).partition("Args:\n")
    arguments, _, rest = sections.partition("\n\n")
    for name in fixed:
        arguments = _without_argument(arguments, name)
    settings = ", ".join(
        f"`{name}={value!r}`"
        for name, value in {**fixed, **defaults}.items()
        if name != "name"
    )
    return (
        f"{summary}\n\nThis is `{general.__name__}` with {settings}.\n\n"
        f"Args:\n{arguments}\n\n{rest}"
    )


def _without_argument(text, name):
    """The items of a section of arguments, without one of them."""
    kept, skipping = [], False
    for line in text.split("\n"):
        if not line.startswith(" " * 8):
            skipping = line.startswith(f"    {name}: ")
        if not skipping:
            kept.append(line)
    return "\n".join(kept)

"""The study of attention branches: variants, rounds, table, page.

Nothing here trains: `zoo.study` does.
"""

import dataclasses
import json

import numpy as np

from zoo.publishing import table

RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to compute attention.

    Attributes:
        meaning: What it is, in words.
        model: Name of the network.
        branch: Arguments of `BranchConv2D` for the AW-convolutions; `None`
            leaves the network as it is.
        settings: What differs from the recipe, by field.
        arguments: Further arguments of the network's function.
        decay: Whether weight decay acts on the attention branch.
    """

    meaning: str
    model: str = "AWResNet20"
    branch: dict | None = None
    settings: dict = dataclasses.field(default_factory=dict)
    arguments: dict = dataclasses.field(default_factory=dict)
    decay: bool = False


def _branch(meaning, **branch):
    return Variant(meaning, branch=branch)


_WIDE = {"norm": True, "units": 16}

VARIANTS = {
    "plain": Variant("the plain network, ResNet-20", model="ResNet20"),
    "paper": Variant("map `u We`, the paper's: AW-ResNet-20 as it is"),
    "gates": _branch(
        "gates in the place of the map", **_WIDE, map=None, gates="inside"
    ),
    "outside": _branch(
        "gates outside of the convolution", **_WIDE, map=None, gates="outside"
    ),
    "norm-units": _branch("map, normalised, 16 units", **_WIDE),
    "map-gates-zero": _branch(
        "map from zero, and gates", **_WIDE, map="zeros", gates="inside"
    ),
    "map-gates": _branch("map, and gates", **_WIDE, gates="inside"),
    "se": Variant("squeeze-and-excitation", model="SEResNet20"),
    "cbam": Variant("CBAM", model="CBAMResNet20"),
    "zero": _branch("map from zero", map="zeros"),
    "norm": _branch("map, normalised", norm=True),
    "units": _branch("map, 16 units", units=16),
    "norm-units-zero": _branch(
        "map from zero, normalised, 16 units", **_WIDE, map="zeros"
    ),
    "mean-one": _branch("map, factor `2 sigmoid`", mean_one=True),
    "gates-mean-one": _branch(
        "gates in the place of the map, factor `2 sigmoid`",
        **_WIDE,
        map=None,
        gates="inside",
        mean_one=True,
    ),
    "blend": _branch(
        "map from zero, blended in over the first third",
        map="zeros",
        blended=True,
    ),
    "rate5": Variant(
        "map, branch learns 5 times as fast", settings={"attention_rate": 5}
    ),
    "decay": Variant("map, weight decay on the branch", decay=True),
    "last": Variant(
        "map, in the last stage only", arguments={"aw_stages": (4,)}
    ),
    "plain-float32": Variant(
        "the plain network, in float32",
        model="ResNet20",
        settings={"dtype": "float32"},
    ),
    "paper-float32": Variant("map, in float32", settings={"dtype": "float32"}),
}


@dataclasses.dataclass(frozen=True)
class Round:
    """Variants that are trained for as long, and how they are chosen.

    Attributes:
        epochs: Number of epochs.
        seeds: Seeds of every variant.
        always: Variants that are trained in any case.
        best: How many of the variants of another round come along, by the mean
            of their losses on the images held out.
        of: The other round.
    """

    epochs: int
    seeds: tuple[int, ...]
    always: tuple[str, ...]
    best: int = 0
    of: "Round | None" = None


_FLOAT32 = ("plain-float32", "paper-float32")
_FIRST = Round(8, (0,), tuple(VARIANTS))
_SECOND = Round(8, (0, 1, 2), ("plain",), best=5, of=_FIRST)
_THIRD = Round(16, (0, 1, 2, 3), ("plain", "paper"), best=2, of=_SECOND)

ROUNDS = (
    _FIRST,
    # What half precision costs, before more is built on it.
    Round(8, (0, 1), ("plain", "paper", *_FLOAT32)),
    _SECOND,
    _THIRD,
)

#: What is compared with AW-convolution and is no candidate itself.
REFERENCES = ("plain", "se", "cbam", *_FLOAT32)


def chosen(round_, results):
    """Names of the variants of a round, once those before are finished.

    Args:
        round_: `Round`.
        results: Dicts, the lines of the table.
    """
    wanted = {*round_.always}
    if round_.of is not None:
        names = {*chosen(round_.of, results)} - {*REFERENCES}
        ranked = sorted(names, key=lambda n: _loss(n, round_.of, results))
        wanted |= {*ranked[: round_.best]}
    return [name for name in VARIANTS if name in wanted]


def _loss(name, round_, results):
    """Mean loss of a variant in a round, on the images held out."""
    runs = [(name, round_.epochs, seed) for seed in round_.seeds]
    found = [float(r["loss"]) for r in results if _key(r) in runs]
    return float(np.mean(found))


def unfinished(results):
    """Variant, epochs and seed of what the first unfinished round lacks."""
    done = {_key(result) for result in results}
    for round_ in ROUNDS:
        runs = [
            (name, round_.epochs, seed)
            for seed in round_.seeds
            for name in chosen(round_, results)
        ]
        if left := [run_ for run_ in runs if run_ not in done]:
            return left
    return []


def _key(result):
    return result["variant"], int(result["epochs"]), int(result["seed"])


def path(places):
    """Path of the table of runs."""
    return places.zoo / "results" / "study.csv"


def read(places):
    """The lines of the table, as dicts of strings."""
    return table.read_dicts(path(places))


def collect(out, places):
    """The lines of the table, and those of finished runs in a folder."""
    lines = {_key(line): line for line in read(places)}
    for found in sorted(out.glob(f"*/{RESULT}")):
        result = json.loads(found.read_text())
        lines.setdefault(_key(result), result)
    order = list(VARIANTS)
    return sorted(
        lines.values(),
        key=lambda r: (int(r["epochs"]), order.index(r["variant"]), _key(r)),
    )


_PAGE = """{head}
# Which attention branch helps

Variants of ResNet-20 on {data}, trained by one recipe, `{recipe}`: on
{train_images:,} training images, measured on the {held_out:,} others. The test
split was not used. Every variant was trained briefly with one seed; the best
of them, by their loss on the images held out, with more seeds, and the best of
these for longer. From `results/study.csv`, which `python -m zoo.study` wrote:
{hardware}, Keras on {backend}, {dtype}.
{progress}
*Held-out loss* and *training loss* are cross-entropies after the last epoch,
the latter the mean over that epoch. *Variation* is the standard deviation over
images of what an element of a kernel is multiplied by, as a share of its mean
(root mean square over elements and layers): zero is a plain convolution.
*Images/s* are those of training on one core, per second of processor time. The
mean over the seeds is followed by the standard deviation; differences pair the
runs of equal seeds, and `p` is that of a paired t-test.

What the layers compute: with `z = pool(x) Wr`, hidden units at each of the
positions of the kernel, and `u = relu(z + br)`, the *map* is `u We`: the
branch of the paper. *Gates* are `v Wi` for each input channel and
`v Wo + bo` for each filter, where `v` is the mean of `u` over the positions;
*normalised* is `z` by its mean and variance in the sample. Map and gates are
added up, with a bias for each pair of channels, and the kernel becomes
`K (1 + sigmoid(.))`. Gates outside scale the input and the output of a plain
convolution by `2 sigmoid(.)` each.
{sections}"""

_PROGRESS = """
**The study is under way.** The round that it is in still lacks {left} runs:
nothing follows from what is here yet.
"""

_SECTION = """
## {epochs} epochs

{table}
"""

_HEADER = (
    *("", "parameters:", "seeds:", "top-1, %:", "to plain, points:"),
    *("held-out loss:", "training loss:", "variation:", "images/s:"),
)


def page(places, head):
    """The page that shows the table, `None` where there is no table."""
    lines = read(places)
    if not lines:
        return None
    first = lines[0]
    left = len(unfinished(lines))
    sections = ""
    for epochs in sorted({int(line["epochs"]) for line in lines}):
        runs = [line for line in lines if int(line["epochs"]) == epochs]
        rows = [_line(name, runs) for name in VARIANTS]
        rows = sorted(
            filter(None, rows), key=lambda row: float(row[5].split()[0])
        )
        sections += _SECTION.format(
            epochs=epochs, table=table.markdown(_HEADER, rows)
        )
    return _PAGE.format(
        head=head,
        sections=sections,
        progress=_PROGRESS.format(left=left) if left else "",
        **{name: int(first[name]) for name in ("train_images", "held_out")},
        **{
            name: first[name] for name in ("recipe", "data", "backend", "dtype")
        },
        hardware=" or ".join(sorted({line["hardware"] for line in lines})),
    )


def _line(name, lines):
    runs = [line for line in lines if line["variant"] == name]
    if not runs:
        return None
    top1, plain = (
        {r["seed"]: float(r["top1"]) for r in lines if r["variant"] == n}
        for n in (name, "plain")
    )
    return [
        VARIANTS[name].meaning,
        f"{int(runs[0]['parameters']):,}",
        len(runs),
        _mean(runs, "top1", 2),
        ""
        if name == "plain"
        else table.show_comparison(table.compare(top1, plain)),
        _mean(runs, "loss", 3),
        _mean(runs, "train_loss", 3),
        _mean(runs, "variation", 3) if runs[0]["variation"] else "",
        _speed(runs),
    ]


def _mean(runs, column, digits):
    values = [float(row[column]) for row in runs]
    return table.show(*table.mean_and_deviation(values), digits)


def _speed(runs):
    found = [float(run["images_per_second"] or 0) for run in runs]
    return f"{max(found):.0f}" if any(found) else ""

"""Loops over chunks of equal size, for backends that compile static shapes."""

from keras import ops


def scan_equal_chunks(scan, samples, body, carry, elements, outputs):
    """`scan_chunks` by `scan`, where no chunk may be smaller than the others.

    The chunks are as large as divides the batch, up to `samples`; single
    samples where the size of the batch is unknown.
    """
    batch = elements[0].shape[0]
    samples = largest_divisor(batch, samples) if isinstance(batch, int) else 1
    if samples == batch:
        return body(carry, elements)
    carry, parts = scan(
        body,
        carry,
        tuple(
            ops.reshape(e, (-1, samples, *ops.shape(e)[1:])) for e in elements
        ),
        tuple(((samples, *shape), dtype) for shape, dtype in outputs),
    )
    return carry, tuple(
        ops.reshape(part, (-1, *shape))
        for part, (shape, _) in zip(parts, outputs)
    )


def largest_divisor(number, limit):
    """Largest divisor of `number` up to `limit`, at least 1."""
    return next(
        (n for n in range(min(number, limit), 0, -1) if number % n == 0), 1
    )

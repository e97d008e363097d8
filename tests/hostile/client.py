"""Sends requests to artifacts, in a process that they may abort.

    python client.py FORMAT '[["path", "float32", [2, 32, 32, 3]], ...]'

Prints the shape of each answer, or the error, as a list in JSON. It needs no
more than the runtime of the format.
"""

import functools
import json
import sys

import numpy as np


def saved_model(path):
    import tensorflow as tf

    signature = tf.saved_model.load(path).signatures["serving_default"]
    return lambda images: signature(images=tf.constant(images)).values()


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda images: session.run(None, {"images": images})


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner()
    return lambda images: runner(images=images).values()


def answer(run, dtype, shape):
    try:
        (output,) = run(np.ones(shape, dtype))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return list(output.shape)


if __name__ == "__main__":
    format, requests = sys.argv[1:]
    opened = functools.cache(globals()[format])
    answers = [
        answer(opened(path), *request)
        for path, *request in json.loads(requests)
    ]
    print(json.dumps(answers))

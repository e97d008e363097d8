"""Layers and models under PyTorch, run eagerly as Keras runs them."""

import torch
import torch.nn.functional as F

from benchmarks.measure import Step


def devices():
    found = {"cpu": "cpu"}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def layer_step(layer, inputs, cotangent, mode):
    weights = [variable.value for variable in layer.trainable_variables]

    def forward(x):
        with torch.no_grad():
            return layer(x)

    def train(x, output_gradient):
        x = x.detach().requires_grad_()
        y = layer(x)
        return y, torch.autograd.grad(y, [x, *weights], output_gradient)

    if cotangent is None:
        return _step(forward, inputs)
    return _step(train, inputs, cotangent)


def network_step(model, inputs, labels, mode):
    if labels is None:
        model.make_predict_function()
        return _step(lambda x: model.predict_function([(x,)]), inputs)
    model.make_train_function()
    return _step(lambda x, y: model.train_function([(x, y)]), inputs, labels)


def device_growth(step):
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return torch.cuda.max_memory_allocated() - before


def grouped_conv2d(inputs, kernels, strides):
    batch, height, width, channels = inputs.shape
    _, rows, columns, _, filters = kernels.shape
    folded = inputs.permute(0, 3, 1, 2).reshape(1, -1, height, width)
    outputs = F.conv2d(
        F.pad(
            folded,
            (
                *_same_padding(width, columns, strides[1]),
                *_same_padding(height, rows, strides[0]),
            ),
        ),
        kernels.permute(0, 4, 3, 1, 2).reshape(-1, channels, rows, columns),
        stride=strides,
        groups=batch,
    )
    outputs = outputs.reshape(batch, filters, *outputs.shape[2:])
    return outputs.permute(0, 2, 3, 1)


def _same_padding(size, window, stride):
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _step(function, *tensors):
    return Step(
        launch=lambda: function(*tensors),
        wait=_wait,
        prepare=lambda: function(*(tensor[:1] for tensor in tensors)),
    )


def _wait(results):
    if torch.cuda.is_available():
        torch.cuda.synchronize()

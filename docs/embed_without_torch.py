"""Embed a folder of images with an exported model, without PyTorch:
pip install onnxruntime 'pillow>=11.3'
python docs/embed_without_torch.py backbone.onnx <folder> embeddings.npz"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

READ = {".apng", ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm"}
READ |= {".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
Image.init()
OTHERS = {".cr2", ".dng", ".heic", ".heif", ".jxl", ".nef", ".svg", *Image.registered_extensions()}
OTHERS -= {*READ, ".bufr", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".pdf"}  # no images


def pixels_of(path: Path, channels: int, height: int, width: int) -> np.ndarray:
    with Image.open(path, formats=FORMATS) as image:
        if image.mode[0] in "IF":
            raise ValueError("more than 8 bits a pixel, whose white is not known here: save 8")
        image = ImageOps.exif_transpose(image).convert("RGBA")  # 8 bits; what is clear is white
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)[None]


model, folder, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["angular_penalty"])
if not about["input"].startswith("pixels"):
    sys.exit(f"{model}: takes features of another encoder, not images")
found = [path.relative_to(folder) for path in sorted(Path(folder).rglob("*")) if path.is_file()]
names = [name for name in found if not any(part.startswith(".") for part in name.parts)]
others = [name for name in names if name.suffix.lower() in OTHERS]
names = [name for name in names if name.suffix.lower() in READ]
if others or not names:
    sys.exit(f"{folder}: {others[0]}: save it as PNG" if others else f"{folder}: holds no image")
embeddings = []
for name in names:
    try:
        pixels = pixels_of(Path(folder, name), *about["image_shape"])
    except Exception as error:  # Pillow raises anything
        sys.exit(f"{Path(folder, name)}: cannot be read as the model's images were: {error}")
    embeddings += list(session.run(None, {"pixels": pixels})[0])
np.savez(out, embeddings=embeddings, names=[name.as_posix() for name in names])

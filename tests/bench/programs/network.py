"""network.py RUNS: a convolutional network of random weights on ncnn, through Vulkan; prints a digest of all results."""

import hashlib
import pathlib
import sys
import tempfile

import ncnn
import numpy

LAYERS = [(3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1)]
SIZE = 160


def write_model(directory, rng):
    lines, weights, last = ["Input data 0 1 data"], b"", "data"
    for at, (before, after, stride) in enumerate(LAYERS):
        count = before * after * 9
        lines.append(
            f"Convolution conv{at} 1 1 {last} conv{at} 0={after} 1=3 3={stride} 4=1 5=1 6={count} 9=1"
        )
        last = f"conv{at}"
        spread = (2 / (before * 9)) ** 0.5
        # Tag 0: 32-bit floats follow.
        weights += numpy.uint32(0).tobytes()
        weights += (rng.standard_normal(count) * spread).astype(numpy.float32).tobytes()
        weights += numpy.zeros(after, numpy.float32).tobytes()
    text = "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n"
    (directory / "net.param").write_text(text)
    (directory / "net.bin").write_bytes(weights)
    return last


def main():
    rng = numpy.random.default_rng(1)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = True
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        last = write_model(directory, rng)
        assert net.load_param(str(directory / "net.param")) == 0
        assert net.load_model(str(directory / "net.bin")) == 0
    images = rng.standard_normal((4, 3, SIZE, SIZE)).astype(numpy.float32)
    digest = hashlib.sha256()
    for run in range(int(sys.argv[1])):
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(images[run % len(images)]).clone())
        result, out = extractor.extract(last)
        assert result == 0
        digest.update(numpy.array(out).tobytes())
        del extractor
    print(digest.hexdigest())
    del net
    ncnn.destroy_gpu_instance()


main()

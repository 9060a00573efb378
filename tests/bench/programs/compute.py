"""compute.py RUNS: products of matrices on wgpu, written and read back each time; prints a digest of all results."""

import hashlib
import sys

import numpy
import wgpu
from wgpu.backends.wgpu_native import extras

SIZE = 192
SHADER = f"""
@group(0) @binding(0) var<storage, read> a: array<i32>;
@group(0) @binding(1) var<storage, read> b: array<i32>;
@group(0) @binding(2) var<storage, read_write> c: array<i32>;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    var sum = 0;
    for (var k = 0u; k < {SIZE}u; k++) {{
        sum += a[id.y * {SIZE}u + k] * b[k * {SIZE}u + id.x];
    }}
    c[id.y * {SIZE}u + id.x] = sum;
}}
"""


def main():
    extras.set_instance_extras(backends=["Vulkan"], flags=["AllowUnderlyingNoncompliantAdapter"])
    device = wgpu.gpu.request_adapter_sync(power_preference="high-performance").request_device_sync()
    module = device.create_shader_module(code=SHADER)
    pipeline = device.create_compute_pipeline(
        layout="auto", compute={"module": module, "entry_point": "main"}
    )
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
    buffers = [device.create_buffer(size=SIZE * SIZE * 4, usage=usage) for _ in range(3)]
    entries = [{"binding": at, "resource": {"buffer": buffer}} for at, buffer in enumerate(buffers)]
    group = device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)
    rng = numpy.random.default_rng(1)
    digest = hashlib.sha256()
    for _ in range(int(sys.argv[1])):
        a, b = rng.integers(-1000, 1000, (2, SIZE, SIZE), numpy.int32)
        device.queue.write_buffer(buffers[0], 0, a)
        device.queue.write_buffer(buffers[1], 0, b)
        encoder = device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(SIZE // 8, SIZE // 8)
        compute.end()
        device.queue.submit([encoder.finish()])
        product = numpy.frombuffer(device.queue.read_buffer(buffers[2]), numpy.int32).reshape(SIZE, SIZE)
        assert (product == a @ b).all()
        digest.update(product.tobytes())
    print(digest.hexdigest())


main()

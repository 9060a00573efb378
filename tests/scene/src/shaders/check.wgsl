// Reads what the CPU wrote and answers: a copy of the uniforms, a histogram, a checksum per 256 vertices.
// The same computation is done on the CPU in frame.rs, whose sizes shaders.rs puts in front of this text:
// POND_VERTICES, VERTICES, CHUNK, CHUNKS, BINS, UNIFORM_ROWS.

struct Results {
    uniforms: array<vec4<u32>, UNIFORM_ROWS>,
    histogram: array<atomic<u32>, BINS>,
    checksums: array<u32, CHUNKS>,
}

@group(0) @binding(0) var<uniform> uniforms: array<vec4<u32>, UNIFORM_ROWS>;
@group(0) @binding(1) var<storage, read> vertices: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> results: Results;

var<workgroup> sum: atomic<u32>;
var<workgroup> bins: array<atomic<u32>, BINS>;

fn hash(word: u32, place: u32) -> u32 {
    let mixed = (word ^ (place * 0x9e3779b9u)) * 0x85ebca6bu;
    return mixed ^ (mixed >> 15u);
}

@compute @workgroup_size(CHUNK)
fn check(
    @builtin(global_invocation_id) global: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
) {
    let index = global.x;
    if index < VERTICES {
        let v = vertices[index];
        let place = index * 4u;
        let mixed = hash(v.x, place) + hash(v.y, place + 1u) + hash(v.z, place + 2u) + hash(v.w, place + 3u);
        atomicAdd(&sum, mixed);
        if index < POND_VERTICES {
            atomicAdd(&bins[(v.w & 0xffu) / (256u / BINS)], 1u);
        }
    }
    workgroupBarrier();
    if local < BINS {
        let count = atomicLoad(&bins[local]);
        if count > 0u {
            atomicAdd(&results.histogram[local], count);
        }
    }
    if local == 0u {
        results.checksums[group.x] = atomicLoad(&sum);
    }
    if group.x == 0u && local < UNIFORM_ROWS {
        results.uniforms[local] = uniforms[local];
    }
}

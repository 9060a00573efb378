// Draws the scene: the pond, the balls and lights above it, and the bar chart in front.

struct Uniforms {
    view_projection: mat4x4<f32>,
    eye_time: vec4<f32>,
    right_aspect: vec4<f32>,
    up_bottom: vec4<f32>,
    lights: array<vec4<f32>, 3>,
    colours: array<vec4<f32>, 3>,
    salt: array<vec4<u32>, 3>,
}

@group(0) @binding(0) var<uniform> scene: Uniforms;

struct Vertex {
    @location(0) place: vec3<f32>,
    @location(1) packed: u32,
}

fn level_of(packed: u32) -> f32 {
    return f32(packed & 0xffu) / 255.0;
}

fn first_of(packed: u32) -> f32 {
    return f32((packed >> 8u) & 0xfffu) / 4095.0;
}

fn second_of(packed: u32) -> u32 {
    return packed >> 20u;
}

// From deep water over green to glowing crests.
fn ramp(level: f32) -> vec3<f32> {
    var c = mix(vec3(0.05, 0.06, 0.32), vec3(0.04, 0.28, 0.80), smoothstep(0.0, 0.25, level));
    c = mix(c, vec3(0.05, 0.70, 0.85), smoothstep(0.25, 0.45, level));
    c = mix(c, vec3(0.25, 0.85, 0.45), smoothstep(0.45, 0.60, level));
    c = mix(c, vec3(1.00, 0.80, 0.20), smoothstep(0.60, 0.78, level));
    return mix(c, vec3(1.00, 0.25, 0.35), smoothstep(0.78, 1.0, level));
}

fn power_64(x: f32) -> f32 {
    let x4 = x * x * x * x;
    let x16 = x4 * x4 * x4 * x4;
    return x16 * x16 * x16 * x16;
}

struct PondPoint {
    @builtin(position) position: vec4<f32>,
    @location(0) colour: vec3<f32>,
}

@vertex
fn pond_vertex(vertex: Vertex) -> PondPoint {
    let nx = first_of(vertex.packed) * 2.0 - 1.0;
    let nz = f32(second_of(vertex.packed)) / 4095.0 * 2.0 - 1.0;
    let normal = vec3(nx, sqrt(max(1.0 - nx * nx - nz * nz, 0.0)), nz);
    let to_eye = normalize(scene.eye_time.xyz - vertex.place);
    let base = ramp(level_of(vertex.packed));
    var colour = base * (0.16 + 0.14 * normal.y);
    for (var i = 0u; i < 3u; i += 1u) {
        let away = scene.lights[i].xyz - vertex.place;
        let distance = dot(away, away);
        let to_light = away * inverseSqrt(distance);
        let strength = 0.42 / (0.12 + distance);
        let shine = power_64(max(dot(normal, normalize(to_light + to_eye)), 0.0));
        let light = scene.colours[i].rgb * strength;
        colour += light * (base * max(dot(normal, to_light), 0.0) + vec3(0.55 * shine));
    }
    // Grazing views reflect the night sky.
    let grazing = 1.0 - max(dot(normal, to_eye), 0.0);
    colour += vec3(0.10, 0.13, 0.25) * grazing * grazing * grazing;
    var out: PondPoint;
    out.position = scene.view_projection * vec4(vertex.place, 1.0);
    out.colour = colour / (1.0 + 0.35 * colour);
    return out;
}

@fragment
fn pond_fragment(point: PondPoint) -> @location(0) vec4<f32> {
    return vec4(point.colour, 1.0);
}

struct SpherePoint {
    @builtin(position) position: vec4<f32>,
    @location(0) corner: vec2<f32>,
    @location(1) @interpolate(flat) colour: vec4<f32>,
}

fn corner_of(index: u32) -> vec2<f32> {
    let right = index == 1u || index == 2u || index == 4u;
    let top = index == 2u || index == 4u || index == 5u;
    return vec2(select(-1.0, 1.0, right), select(-1.0, 1.0, top));
}

// Spheres are squares that face the camera; the fragment shader rounds them.
@vertex
fn sphere_vertex(vertex: Vertex, @builtin(vertex_index) index: u32) -> SpherePoint {
    let light = second_of(vertex.packed);
    let corner = corner_of(index);
    var radius = first_of(vertex.packed);
    var out: SpherePoint;
    out.colour = vec4(ramp(level_of(vertex.packed)), 0.0);
    if light > 0u {
        radius *= 5.0;
        out.colour = vec4(scene.colours[light - 1u].rgb, 1.0);
    }
    let offset = scene.right_aspect.xyz * corner.x + scene.up_bottom.xyz * corner.y;
    out.position = scene.view_projection * vec4(vertex.place + offset * radius, 1.0);
    out.corner = corner;
    return out;
}

@fragment
fn sphere_fragment(point: SpherePoint) -> @location(0) vec4<f32> {
    let squared = dot(point.corner, point.corner);
    if squared > 1.0 {
        discard;
    }
    if point.colour.a > 0.5 {
        // A light: a bright core in a halo, added to what is behind.
        let halo = (1.0 - squared) * (1.0 - squared);
        let core = smoothstep(0.035, 0.015, squared);
        return vec4(point.colour.rgb * (0.7 * halo * halo * halo) + (vec3(0.7) + 0.3 * point.colour.rgb) * core, core);
    }
    let height = sqrt(1.0 - squared);
    let diffuse = 0.45 + 0.55 * max(dot(vec3(point.corner, height), vec3(0.36, 0.72, 0.6)), 0.0);
    let glint = point.corner - vec2(0.35, 0.45);
    let shine = smoothstep(0.09, 0.0, dot(glint, glint));
    let alpha = smoothstep(1.0, 0.75, squared);
    return vec4((point.colour.rgb * diffuse + vec3(0.7 * shine)) * alpha, alpha);
}

struct BarPoint {
    @builtin(position) position: vec4<f32>,
    @location(0) colour: vec4<f32>,
}

// A bar's place is its left edge, its width and its height, in clip space.
@vertex
fn bar_vertex(vertex: Vertex, @builtin(vertex_index) index: u32) -> BarPoint {
    let corner = corner_of(index) * 0.5 + 0.5;
    let x = vertex.place.x + vertex.place.y * corner.x;
    let y = scene.up_bottom.w + vertex.place.z * corner.y;
    let alpha = first_of(vertex.packed);
    var colour = ramp(level_of(vertex.packed)) * (0.65 + 0.35 * corner.y);
    if second_of(vertex.packed) == 1u {
        colour = vec3(0.02, 0.03, 0.07);
    }
    var out: BarPoint;
    out.position = vec4(x, y, 0.0, 1.0);
    out.colour = vec4(colour * alpha, alpha);
    return out;
}

@fragment
fn bar_fragment(point: BarPoint) -> @location(0) vec4<f32> {
    return point.colour;
}

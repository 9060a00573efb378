//! Scene.
fn main() {}

//! What the shaders that are bound may write.

use std::sync::Arc;

use ash::vk;

use super::Objects;
use super::bind_point::Shaders;
use super::pipeline::PipelineWrites;

/// What a pipeline may write, or a combination of shader objects: one of `combinations`.
pub fn writes_of(
    objects: &Objects,
    shaders: Shaders,
    combinations: &[Box<[vk::ShaderEXT]>],
) -> Arc<PipelineWrites> {
    match shaders {
        Shaders::Pipeline(pipeline) => {
            objects.pipelines.get(pipeline).unwrap_or_else(|| Arc::new(PipelineWrites::unknown()))
        }
        Shaders::Objects(index) => {
            let mut all = PipelineWrites::default();
            for shader in combinations.get(index as usize).into_iter().flatten() {
                match objects.shaders.get(*shader) {
                    Some(writes) => all.merge(&writes),
                    None => all.anything = true,
                }
            }
            Arc::new(all)
        }
    }
}

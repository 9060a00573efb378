//! Saving the last frame as a PNG file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};

use crate::target::SIZE;

/// Writes red, green, blue and alpha bytes to a file, as an opaque picture.
pub(crate) fn save(path: &Path, mut pixels: Vec<u8>) -> Result<()> {
    pixels.iter_mut().skip(3).step_by(4).for_each(|alpha| *alpha = u8::MAX);
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), SIZE.width, SIZE.height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().with_context(|| format!("writing {}", path.display()))?;
    writer.write_image_data(&pixels).with_context(|| format!("writing {}", path.display()))?;
    writer.finish().with_context(|| format!("writing {}", path.display()))
}

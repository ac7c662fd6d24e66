//! SVG to a 64x64 picture on white, stored as lossless WebP.

use anyhow::{Result, anyhow};
use resvg::{tiny_skia, usvg};

pub const PIXELS: u32 = 64;

pub fn webp(svg: &str) -> Result<Vec<u8>> {
    let tree = usvg::Tree::from_str(svg, &usvg::Options::default())?;
    let mut pixmap = tiny_skia::Pixmap::new(PIXELS, PIXELS).ok_or_else(|| anyhow!("no memory for a picture"))?;
    pixmap.fill(tiny_skia::Color::WHITE);
    let size = tree.size();
    let scale = PIXELS as f32 / size.width().max(size.height());
    let transform = tiny_skia::Transform::from_row(
        scale,
        0.0,
        0.0,
        scale,
        (PIXELS as f32 - size.width() * scale) / 2.0,
        (PIXELS as f32 - size.height() * scale) / 2.0,
    );
    resvg::render(&tree, transform, &mut pixmap.as_mut());
    // The background is opaque, so premultiplied and plain colours are the same.
    let rgb: Vec<u8> = pixmap.data().chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect();
    let encoded = webp::Encoder::from_rgb(&rgb, PIXELS, PIXELS)
        .encode_simple(true, 100.0)
        .map_err(|error| anyhow!("lossless WebP failed: {error:?}"))?;
    Ok(encoded.to_vec())
}

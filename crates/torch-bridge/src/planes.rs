//! Pictures from the bytes that a loader has to the numbers that a tower takes: here, since they are written into the memory of a tensor.

use std::mem::MaybeUninit;
use tch::{Device, Kind, Tensor};

/// Pictures `[pictures, 3, side, side]` on the CPU, of their bytes `[side, side, 3]` one after the other, those of later `parts` behind those of
/// the first. Each byte becomes what the table of its channel says, written into the tensor's own memory.
pub fn planes(parts: &[&[u8]], side: usize, tables: &[[f32; 256]; 3]) -> Tensor {
    let pixels = side * side;
    let each = (3 * pixels).max(1);
    let pictures: usize = parts.iter().map(|part| part.len() / each).sum();
    let tensor = Tensor::empty([pictures as i64, 3, side as i64, side as i64], (Kind::Float, Device::Cpu));
    if tensor.numel() == 0 {
        return tensor;
    }
    // SAFETY: the tensor is new, so that nobody else sees its memory, which is contiguous and of so many numbers; they may lack a value. All
    // are written below: there are as many pictures as were counted, and each fills three planes.
    let memory: &mut [MaybeUninit<f32>] =
        unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) };
    let [of_red, of_green, of_blue] = tables;
    let value = |table: &[f32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0.0);
    let bytes = parts.iter().flat_map(|part| part.chunks_exact(each));
    for (planes, picture) in memory.chunks_exact_mut(each).zip(bytes) {
        let (red, others) = planes.split_at_mut(pixels);
        let (green, blue) = others.split_at_mut(pixels);
        let (rgb, _) = picture.as_chunks::<3>();
        for (((red, green), blue), [r, g, b]) in red.iter_mut().zip(green).zip(blue).zip(rgb) {
            red.write(value(of_red, *r));
            green.write(value(of_green, *g));
            blue.write(value(of_blue, *b));
        }
    }
    tensor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_pixels_become_planes_by_their_channels_tables() {
        let tables = [1000.0f32, 2000.0, 3000.0].map(|channel| std::array::from_fn(|value| channel + value as f32));
        let bytes: Vec<u8> = (0..36).collect();
        let found = planes(&[&bytes[..12], &bytes[12..]], 2, &tables);
        assert_eq!((found.size(), found.is_contiguous()), (vec![3, 3, 2, 2], true));
        let places =
            (0..3).flat_map(|picture| (0..3).flat_map(move |channel| (0..4).map(move |at| (picture, channel, at))));
        let wanted = places.map(|(picture, channel, at)| 1000 * (channel + 1) + 12 * picture + 3 * at + channel);
        let found: Vec<f32> = Vec::try_from(found.view(-1)).unwrap();
        assert_eq!(found, wanted.map(|number| number as f32).collect::<Vec<_>>());
        assert_eq!(planes(&[&[], &bytes[..11]], 2, &tables).size(), [0, 3, 2, 2], "less than a picture is none");
    }
}

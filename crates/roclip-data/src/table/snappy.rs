//! Parts of a snappy stream that can be unpacked alone.
//!
//! Every compressor of snappy takes its input in fragments of 64 KiB and refers to nothing before the one that it is in, so that the stream of
//! a page can be entered at each of them. The format does not promise it: each stream is looked at.

/// Of what is packed.
pub(super) const FRAGMENT_BYTES: usize = 1 << 16;

/// Where in the stream each fragment begins, and where the last one ends; none for a stream that cannot be entered there, is damaged, or does
/// not unpack to `unpacked` bytes.
pub(super) fn fragments(stream: &[u8], unpacked: usize) -> Option<Box<[u32]>> {
    u32::try_from(stream.len()).ok()?;
    let mut rest = stream;
    if crate::varint::read(&mut rest)? != unpacked as u64 {
        return None;
    }
    let (mut at, mut made) = (stream.len() - rest.len(), 0usize);
    let mut begins = Vec::with_capacity(unpacked / FRAGMENT_BYTES + 2);
    while let Some(tag) = stream.get(at) {
        let within = made % FRAGMENT_BYTES;
        if within == 0 {
            begins.push(at as u32);
        }
        let (head, length, back) = element(*tag, stream.get(at + 1..)?)?;
        if within + length > FRAGMENT_BYTES || back.is_some_and(|back| back == 0 || back > within) {
            return None;
        }
        made += length;
        at = at.checked_add(head)?.checked_add(if back.is_some() { 0 } else { length })?;
    }
    begins.push(at as u32);
    (at == stream.len() && made == unpacked).then(|| begins.into())
}

/// Bytes of an element's head, bytes that it makes, and how far it refers back; none where it holds its bytes itself.
fn element(tag: u8, behind: &[u8]) -> Option<(usize, usize, Option<usize>)> {
    let number = |bytes: usize| -> Option<usize> {
        Some(behind.get(..bytes)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let upper = usize::from(tag >> 2);
    Some(match tag & 3 {
        0 if upper < 60 => (1, upper + 1, None),
        0 => (upper - 58, number(upper - 59)? + 1, None),
        1 => (2, (upper & 7) + 4, Some(usize::from(tag >> 5) << 8 | number(1)?)),
        2 => (3, upper + 1, Some(number(2)?)),
        _ => (5, upper + 1, Some(number(4)?)),
    })
}

/// Unpacks `unpacked` bytes of whole fragments. None where they are damaged.
pub(super) fn unpack(fragments: &[u8], unpacked: usize) -> Option<Vec<u8>> {
    let mut stream = Vec::with_capacity(fragments.len() + 5);
    crate::varint::write(unpacked as u64, &mut stream);
    stream.extend_from_slice(fragments);
    snap::raw::Decoder::new().decompress_vec(&stream).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise, and between it what was there before.
    fn bytes(count: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut bytes: Vec<u8> = Vec::with_capacity(count);
        while bytes.len() < count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match (state >> 24, bytes.len()) {
                (0..4, 9000..) => bytes.extend_from_within(bytes.len() - 9000..bytes.len() - 8000),
                (4, _) => bytes.extend([9; 300]),
                (value, _) => bytes.push(value as u8),
            }
        }
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn every_run_of_fragments_is_unpacked_alone() {
        for count in [1, 60, 61, 4000, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 5 * FRAGMENT_BYTES - 3] {
            let plain = bytes(count);
            let stream = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
            let begins = fragments(&stream, count).unwrap();
            assert_eq!(begins.len(), count.div_ceil(FRAGMENT_BYTES) + 1);
            for first in 0..begins.len() - 1 {
                for end in first + 1..begins.len() {
                    let expected = &plain[first * FRAGMENT_BYTES..count.min(end * FRAGMENT_BYTES)];
                    let part = &stream[begins[first] as usize..begins[end] as usize];
                    assert_eq!(unpack(part, expected.len()).as_deref(), Some(expected), "{count} {first}..{end}");
                }
            }
        }
    }

    #[test]
    fn streams_that_refer_further_back_or_are_damaged_cannot_be_entered() {
        let plain = bytes(3 * FRAGMENT_BYTES);
        let stream = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert!(fragments(&stream, plain.len() - 1).is_none());
        (0..stream.len()).step_by(997).for_each(|cut| assert!(fragments(&stream[..cut], plain.len()).is_none()));
        for at in (0..stream.len()).step_by(61) {
            let mut damaged = stream.clone();
            damaged[at] ^= 0xff;
            if let Some(begins) = fragments(&damaged, plain.len()) {
                let all = &damaged[begins[0] as usize..];
                assert!(unpack(all, plain.len()).is_none_or(|found| found.len() == plain.len()));
            }
        }
        // 64 KiB and a copy of four bytes from before them.
        let mut far = Vec::new();
        crate::varint::write(FRAGMENT_BYTES as u64 + 4, &mut far);
        far.extend([61 << 2, 0xff, 0xff]);
        far.extend(vec![1; FRAGMENT_BYTES]);
        far.extend([2 | 3 << 2, 100, 0]);
        assert!(snap::raw::Decoder::new().decompress_vec(&far).is_ok());
        assert!(fragments(&far, FRAGMENT_BYTES + 4).is_none());
    }
}

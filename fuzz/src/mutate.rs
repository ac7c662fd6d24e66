//! Mutations: bytes and blocks, numbers at their limits, and pieces of other inputs.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

/// Inputs that break parsers most often, as text and as bytes.
const TOKENS: [&[u8]; 26] = [
    b"0",
    b"-1",
    b"1",
    b"65535",
    b"65536",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"1e308",
    b"-0.0",
    b"NaN",
    b"null",
    b"{}",
    b"[]",
    b"\"",
    b"\n",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xef\xbb\xbf",
    b"../",
    b"/dev/zero",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
];
/// Inputs are small, so that many of them run.
const LONGEST: usize = 1 << 17;

/// One of `seeds`, changed in one place or in several.
pub fn mutated(seeds: &[Vec<u8>], random: &mut impl Rng) -> Vec<u8> {
    let mut input = seeds.choose(random).cloned().unwrap_or_default();
    let changes = 1 << random.random_range(0..5u32);
    for _ in 0..changes {
        change(&mut input, seeds, random);
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut impl Rng) {
    let at = random.random_range(0..=input.len());
    let length = 1 << random.random_range(0..9u32);
    let end = (at + random.random_range(0..=length)).min(input.len());
    match random.random_range(0..9) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.random_range(0..8u32)),
        1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.random()),
        2 => drop(input.drain(at..end)),
        3 => {
            let block: Vec<u8> = input.iter().skip(at).take(end - at).copied().collect();
            let times = 1 << random.random_range(0..6u32);
            if input.len() < LONGEST {
                input.splice(at..at, block.repeat(times));
            }
        }
        4 | 5 => {
            let token = TOKENS.choose(random).copied().unwrap_or_default();
            let replaced = if random.random() { (at + token.len()).min(input.len()) } else { at };
            input.splice(at..replaced, token.iter().copied());
        }
        6 => input.truncate(at),
        7 => {
            let other = seeds.choose(random).map(Vec::as_slice).unwrap_or_default();
            let from = random.random_range(0..=other.len());
            input.splice(at..end, other.iter().skip(from).take(length).copied());
        }
        _ => number(input, random),
    }
}

/// Another number in the place of one.
fn number(input: &mut Vec<u8>, random: &mut impl Rng) {
    let digits: Vec<usize> =
        input.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, _)| at).collect();
    let Some(at) = digits.choose(random).copied() else { return };
    let length = input.iter().skip(at).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let tokens = TOKENS.iter().take(13).copied().collect::<Vec<_>>();
    let token = tokens.choose(random).copied().unwrap_or_default();
    input.splice(at..at + length, token.iter().copied());
}

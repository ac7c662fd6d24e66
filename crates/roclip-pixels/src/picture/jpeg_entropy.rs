//! The lengths of a JPEG's entropy-coded blocks (ITU-T T.81, F.2 and G.2): what each block takes of the data, without its pixels.

use crate::picture::jpeg_fault::Fault;

/// Codes up to this length are looked up at once.
const LOOKUP_BITS: u32 = 9;

/// So many bits are looked up for all coefficients that lie in them whole.
const SEVERAL_BITS: u32 = 11;

const NO_CODE: Fault = Fault::Damaged("holds a code that is none");

/// A Huffman table.
pub(super) struct Codes {
    /// Length and symbol of the code that the next [`LOOKUP_BITS`] begin with; length 0 = a longer one.
    lookup: Vec<(u8, u8)>,
    /// For each length: the first code beyond it, left-aligned in 16 bits, and what to add to a code for its symbol's place.
    longer: [(u32, i32); 17],
    symbols: Vec<u8>,
    /// By the next [`SEVERAL_BITS`]: what they are as coefficients of a sequential picture. Empty until [`Codes::with_several`].
    several: Vec<Steps>,
}

/// Coefficients that are walked over in one step.
#[derive(Clone, Copy, Default)]
struct Steps {
    /// Bits that they take; 0 = not even the first is whole, or its code is a long one.
    bits: u8,
    /// Coefficients, zeros included.
    advance: u8,
    /// Whether the block ends behind them.
    ends: bool,
}

impl Codes {
    /// `counts` of codes by length, from 1. None where they are no prefix code.
    pub fn new(counts: [u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut codes = Codes {
            lookup: vec![(0, 0); 1 << LOOKUP_BITS],
            longer: [(0, 0); 17],
            symbols: symbols.to_vec(),
            several: Vec::new(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, count) in (1u32..).zip(counts) {
            let first = (code, place);
            for _ in 0..count {
                let symbol = *symbols.get(place)?;
                if length <= LOOKUP_BITS {
                    let spread = 1usize << (LOOKUP_BITS - length);
                    let from = code as usize * spread;
                    codes.lookup.get_mut(from..from + spread)?.fill((length as u8, symbol));
                }
                (code, place) = (code + 1, place + 1);
            }
            if code > 1 << length {
                return None;
            }
            *codes.longer.get_mut(length as usize)? = (code << (16 - length), first.1 as i32 - first.0 as i32);
            code <<= 1;
        }
        Some(codes)
    }

    /// The same for the coefficients of sequential pictures, whose lengths are all that is asked for.
    #[must_use]
    pub fn with_several(mut self) -> Self {
        let steps = (0..1u32 << SEVERAL_BITS).map(|next| self.steps(next)).collect();
        self.several = steps;
        self
    }

    fn steps(&self, next: u32) -> Steps {
        let mut steps = Steps::default();
        while !steps.ends {
            let rest = (next << steps.bits) & ((1 << SEVERAL_BITS) - 1);
            let found = self.lookup.get((rest >> (SEVERAL_BITS - LOOKUP_BITS)) as usize);
            let Some((length @ 1.., symbol)) = found.copied() else { break };
            let bits = steps.bits + length + (symbol & 15);
            let (advance, ends) = match (symbol >> 4, symbol & 15) {
                (15, 0) => (16, false),
                (_, 0) => (0, true),
                (zeros, _) => (zeros + 1, false),
            };
            if u32::from(bits) > SEVERAL_BITS || steps.advance + advance >= 64 {
                break;
            }
            steps = Steps { bits, advance: steps.advance + advance, ends };
        }
        steps
    }
}

#[derive(Default)]
pub(super) struct Tables {
    pub dc: [Option<Codes>; 4],
    pub ac: [Option<Codes>; 4],
}

/// The bits of a scan, up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Bits { bytes, at, buffer: 0, count: 0 }
    }

    /// At least 32 bits, where there are so many before the next marker.
    fn fill(&mut self) {
        while self.count <= 56 {
            if self.fill_at_once() {
                return;
            }
            let Some(byte) = self.bytes.get(self.at) else { return };
            if *byte == 0xff {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                // A zero stands behind a byte that only looks like a marker.
                match rest.iter().position(|byte| *byte != 0xff) {
                    Some(zero) if rest.get(zero) == Some(&0) => self.at += zero,
                    _ => return,
                }
            }
            self.at += 1;
            self.buffer |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Takes all the bytes that there is room for, where eight are there of which none looks like a marker.
    #[inline]
    fn fill_at_once(&mut self) -> bool {
        let Some(bytes) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) else { return false };
        const ONES: u64 = 0x0101_0101_0101_0101;
        let next = u64::from_be_bytes(*bytes);
        // A byte of `next` is 0xff where it is 0 here.
        let inverse = !next;
        if inverse.wrapping_sub(ONES) & next & (ONES << 7) != 0 {
            return false;
        }
        let room = (64 - self.count) / 8;
        let unused = 64 - 8 * room;
        self.buffer |= ((next >> unused) << unused) >> self.count;
        self.at += room as usize;
        self.count += 8 * room;
        true
    }

    /// The coefficients that the next bits hold whole, where they are known at once and stay in front of coefficient 64.
    #[inline]
    fn several(&mut self, codes: &Codes, at: u32) -> Option<Steps> {
        if self.count < 32 {
            self.fill();
        }
        let steps = *codes.several.get((self.buffer >> (64 - SEVERAL_BITS)) as usize)?;
        let bits = u32::from(steps.bits);
        if bits == 0 || bits > self.count || at + u32::from(steps.advance) >= 64 {
            return None;
        }
        self.buffer <<= bits;
        self.count -= bits;
        Some(steps)
    }

    #[inline]
    fn skip(&mut self, count: u32) -> Result<(), Fault> {
        if count > self.count {
            self.fill();
            if count > self.count {
                return Err(Fault::Cut);
            }
        }
        self.buffer = self.buffer.checked_shl(count).unwrap_or(0);
        self.count -= count;
        Ok(())
    }

    fn read(&mut self, count: u32) -> Result<u32, Fault> {
        self.fill();
        let value = self.buffer.checked_shr(64 - count).unwrap_or(0) as u32;
        self.skip(count)?;
        Ok(value)
    }

    #[inline]
    fn symbol(&mut self, codes: &Codes) -> Result<u32, Fault> {
        if self.count < 32 {
            self.fill();
        }
        let next = (self.buffer >> (64 - LOOKUP_BITS)) as usize;
        if let Some((length @ 1.., symbol)) = codes.lookup.get(next) {
            self.skip(u32::from(*length))?;
            return Ok(u32::from(*symbol));
        }
        let next = (self.buffer >> 48) as u32;
        let found = (0u32..).zip(&codes.longer).skip(LOOKUP_BITS as usize + 1).find(|(_, (beyond, _))| next < *beyond);
        let Some((length, (_, offset))) = found else {
            return Err(if self.count < 16 { Fault::Cut } else { NO_CODE });
        };
        self.skip(length)?;
        let place = (next >> (16 - length)) as i32 + offset;
        codes.symbols.get(place as usize).map(|symbol| u32::from(*symbol)).ok_or(NO_CODE)
    }

    /// A DC difference: its size, then so many bits.
    fn difference(&mut self, codes: &Codes) -> Result<(), Fault> {
        let size = self.symbol(codes)?;
        if size > 16 {
            return Err(NO_CODE);
        }
        self.skip(size)
    }

    /// Goes behind the restart marker that must come next; its number is not looked at.
    fn restart(&mut self) -> Result<(), Fault> {
        (self.buffer, self.count) = (0, 0);
        let mut rest = self.bytes.iter().enumerate().skip(self.at);
        loop {
            rest.find(|(_, byte)| **byte == 0xff).ok_or(Fault::Cut)?;
            match rest.find(|(_, byte)| **byte != 0xff).ok_or(Fault::Cut)? {
                (_, 0) => {}
                (at, 0xd0..=0xd7) => {
                    self.at = at + 1;
                    return Ok(());
                }
                _ => return Err(Fault::Cut),
            }
        }
    }
}

/// How the blocks of a scan are coded.
pub(super) enum Coding {
    /// All coefficients at once: sequential pictures.
    Whole,
    FirstDc,
    MoreDc,
    /// First and last coefficient.
    FirstAc((u32, u32)),
    MoreAc((u32, u32)),
}

/// Reads over the blocks of a scan.
pub(super) struct BlockReader<'a> {
    bits: Bits<'a>,
    coding: Coding,
    tables: &'a Tables,
    restart: u32,
    /// Units before the next restart marker.
    left: u32,
    /// Blocks that come without a code of their own.
    run: u32,
}

impl<'a> BlockReader<'a> {
    pub fn new(bits: Bits<'a>, coding: Coding, tables: &'a Tables, restart: u32) -> Self {
        BlockReader { bits, coding, tables, restart, left: restart, run: 0 }
    }

    /// Whether a scan of this kind gives its components their first values.
    pub fn begins_components(&self) -> bool {
        matches!(self.coding, Coding::Whole | Coding::FirstDc)
    }

    /// Where the data that no block has taken begins, at most some bytes late: never behind a marker.
    pub fn finish(self) -> usize {
        self.bits.at
    }

    pub fn begin_unit(&mut self) -> Result<(), Fault> {
        if self.restart > 0 {
            if self.left == 0 {
                self.bits.restart()?;
                (self.run, self.left) = (0, self.restart);
            }
            self.left -= 1;
        }
        Ok(())
    }

    /// `tables`: places of the DC and the AC table, four bits each.
    pub fn block(&mut self, tables: u8, non_zero: Option<&mut u64>) -> Result<(), Fault> {
        let missing = || Fault::from("lacks a code table");
        let dc = || self.tables.dc.get(usize::from(tables >> 4)).and_then(Option::as_ref).ok_or_else(missing);
        let ac = || self.tables.ac.get(usize::from(tables & 15)).and_then(Option::as_ref).ok_or_else(missing);
        let mut none = 0;
        let non_zero = non_zero.unwrap_or(&mut none);
        match self.coding {
            Coding::Whole => {
                let (dc, ac) = (dc()?, ac()?);
                self.bits.difference(dc)?;
                self.coefficients(ac)
            }
            Coding::FirstDc => {
                let dc = dc()?;
                self.bits.difference(dc)
            }
            Coding::MoreDc => self.bits.skip(1),
            Coding::FirstAc(band) => {
                let ac = ac()?;
                self.first_ac(ac, band, non_zero)
            }
            Coding::MoreAc(band) => {
                let ac = ac()?;
                self.more_ac(ac, band, non_zero)
            }
        }
    }

    fn coefficients(&mut self, codes: &Codes) -> Result<(), Fault> {
        let mut at = 1;
        while at < 64 {
            if let Some(steps) = self.bits.several(codes, at) {
                at += u32::from(steps.advance);
                if steps.ends {
                    break;
                }
                continue;
            }
            let symbol = self.bits.symbol(codes)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => at += 16,
                (_, 0) => break,
                (zeros, size) => {
                    at += zeros + 1;
                    self.bits.skip(size)?;
                }
            }
        }
        Ok(())
    }

    fn first_ac(&mut self, codes: &Codes, (first, last): (u32, u32), non_zero: &mut u64) -> Result<(), Fault> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let mut at = first;
        while at <= last {
            let symbol = self.bits.symbol(codes)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => at += 16,
                (power, 0) => {
                    self.run = (1 << power) - 1 + self.bits.read(power)?;
                    break;
                }
                (zeros, size) => {
                    at += zeros;
                    self.bits.skip(size)?;
                    *non_zero |= 1u64.checked_shl(at).unwrap_or(0);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn more_ac(&mut self, codes: &Codes, (first, last): (u32, u32), non_zero: &mut u64) -> Result<(), Fault> {
        let mut at = first;
        while self.run == 0 && at <= last {
            let symbol = self.bits.symbol(codes)?;
            let (zeros, size) = (symbol >> 4, symbol & 15);
            if size == 0 && zeros < 15 {
                self.run = (1 << zeros) + self.bits.read(zeros)?;
                break;
            }
            // The sign of a coefficient that is new, behind so many zeros; those that are not zero take a bit each on the way.
            self.bits.skip(u32::from(size > 0))?;
            let mut zeros = zeros;
            while at <= last {
                if (*non_zero >> at) & 1 == 1 {
                    self.bits.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
            if size > 0 && at <= last {
                *non_zero |= 1 << at;
            }
            at += 1;
        }
        if self.run > 0 {
            for at in at..=last {
                self.bits.skip(((*non_zero >> at) & 1) as u32)?;
            }
            self.run -= 1;
        }
        Ok(())
    }
}

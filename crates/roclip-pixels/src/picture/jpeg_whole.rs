//! Whether a JPEG file holds all of its pixels.
//!
//! Decoders fill what is missing with grey and say nothing, so the file is walked here first: every block of every scan must be there, and the
//! end marker behind them, for which Pillow asks as well. What stands behind the end is nobody's.

use crate::picture::jpeg_entropy::{Bits, BlockReader, Codes, Coding, Tables};
use crate::picture::jpeg_fault::Fault;

/// A scan may take few bytes whatever the size of the picture, so their number is limited, as in decoders.
const MAX_SCANS: usize = 100;
const END: u8 = 0xd9;

/// Fails with what is wrong where the picture is not whole. `size` is the one that was read from the header and held against limits.
pub(super) fn check_whole(bytes: &[u8], size: (u32, u32)) -> Result<(), Fault> {
    let tables = Tables::default();
    let mut file = File { bytes, at: 2, size, frame: None, tables, restart: 0 };
    let mut scans = 0;
    loop {
        match file.next_marker()? {
            END => break,
            marker @ 0xc0..=0xc2 => file.frame(marker == 0xc2)?,
            0xc4 => file.code_tables()?,
            0xc3 | 0xc5..=0xcf => return Err("is coded in a way that is not read here".into()),
            0xda => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err("has too many scans".into());
                }
                file.scan()?;
            }
            0xdd => file.restart = file.segment()?.word().unwrap_or(0),
            _ => {
                file.segment()?;
            }
        }
    }
    let frame = file.frame.ok_or("holds no picture")?;
    match frame.components.iter().all(|component| component.seen) {
        true => Ok(()),
        false => Err("lacks a colour channel".into()),
    }
}

struct File<'a> {
    bytes: &'a [u8],
    at: usize,
    size: (u32, u32),
    frame: Option<Frame>,
    tables: Tables,
    /// Units between restart markers; 0 = none.
    restart: u32,
}

struct Frame {
    progressive: bool,
    components: Vec<Component>,
    /// Units of all components across and down.
    units: (u32, u32),
}

/// A colour channel.
struct Component {
    id: u8,
    /// Blocks of a unit across and down.
    factors: (u32, u32),
    /// Blocks that carry pixels, across and down.
    blocks: (u32, u32),
    /// Blocks in a row of whole units.
    stride: u32,
    /// Coefficients of each block that are not zero, a bit each: what a progressive refinement's length depends on.
    non_zero: Vec<u64>,
    seen: bool,
}

/// A segment's bytes, from its front.
struct Segment<'a>(&'a [u8]);

impl<'a> Segment<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn word(&mut self) -> Option<u32> {
        Some((u32::from(self.byte()?) << 8) | u32::from(self.byte()?))
    }
}

impl<'a> File<'a> {
    /// The next marker that begins a segment, or the end; what lies before it is passed over, as decoders do.
    fn next_marker(&mut self) -> Result<u8, Fault> {
        loop {
            let mut rest = self.bytes.iter().enumerate().skip(self.at).skip_while(|(_, byte)| **byte != 0xff);
            let (at, code) = rest.find(|(_, byte)| **byte != 0xff).ok_or(Fault::Cut)?;
            self.at = at + 1;
            // A stuffed byte and the markers without a segment are not looked for.
            if !matches!(code, 0x00 | 0x01 | 0xd0..=0xd8) {
                return Ok(*code);
            }
        }
    }

    fn segment(&mut self) -> Result<Segment<'a>, Fault> {
        let mut rest = Segment(self.bytes.get(self.at..).unwrap_or_default());
        let length = rest.word().ok_or(Fault::Cut)?.max(2) as usize;
        self.at += length;
        rest.take(length - 2).map(Segment).ok_or(Fault::Cut)
    }

    fn frame(&mut self, progressive: bool) -> Result<(), Fault> {
        let mut segment = self.segment()?;
        let mut read = || {
            let (_precision, height, width) = (segment.byte()?, segment.word()?, segment.word()?);
            let count = segment.byte()?;
            let listed = (0..count).map(|_| {
                let (id, factors, _table) = (segment.byte()?, segment.byte()?, segment.byte()?);
                Some((id, (u32::from(factors >> 4), u32::from(factors & 15))))
            });
            Some(((width, height), listed.collect::<Option<Vec<_>>>()?))
        };
        let (size, listed) = read().ok_or("has a damaged header")?;
        let possible = |factor: u32| (1..=4).contains(&factor);
        let sound = listed.iter().all(|(_, factors)| possible(factors.0) && possible(factors.1));
        if self.frame.is_some() || size != self.size || !(1..=4).contains(&listed.len()) || !sound {
            return Err("has a damaged header".into());
        }
        let across = listed.iter().map(|(_, factors)| factors.0).max().unwrap_or(1);
        let down = listed.iter().map(|(_, factors)| factors.1).max().unwrap_or(1);
        let units = (size.0.div_ceil(8 * across), size.1.div_ceil(8 * down));
        let components = listed.into_iter().map(|(id, factors)| {
            let blocks = ((size.0 * factors.0).div_ceil(8 * across), (size.1 * factors.1).div_ceil(8 * down));
            let stride = units.0 * factors.0;
            let kept = if progressive { stride as usize * (units.1 * factors.1) as usize } else { 0 };
            Component { id, factors, blocks, stride, non_zero: vec![0; kept], seen: false }
        });
        self.frame = Some(Frame { progressive, components: components.collect(), units });
        Ok(())
    }

    fn code_tables(&mut self) -> Result<(), Fault> {
        let mut segment = self.segment()?;
        while let Some(place) = segment.byte() {
            let mut read = || {
                let counts: [u8; 16] = segment.take(16)?.try_into().ok()?;
                let total = counts.iter().map(|count| usize::from(*count)).sum();
                Codes::new(counts, segment.take(total)?)
            };
            let codes = read().ok_or("has a damaged code table")?;
            let sequential = self.frame.as_ref().is_none_or(|frame| !frame.progressive);
            let (tables, codes) = match (place >> 4, sequential) {
                (0, _) => (&mut self.tables.dc, codes),
                (_, true) => (&mut self.tables.ac, codes.with_several()),
                (_, false) => (&mut self.tables.ac, codes),
            };
            *tables.get_mut(usize::from(place & 15)).ok_or("has a damaged code table")? = Some(codes);
        }
        Ok(())
    }

    fn scan(&mut self) -> Result<(), Fault> {
        const DAMAGED: &str = "has a damaged scan header";
        let mut segment = self.segment()?;
        let mut read = || {
            let count = segment.byte()?;
            let chosen = (0..count).map(|_| Some((segment.byte()?, segment.byte()?))).collect::<Option<Vec<_>>>()?;
            Some((chosen, segment.byte()?, segment.byte()?, segment.byte()?))
        };
        let (chosen, first, last, approximation) = read().ok_or(DAMAGED)?;
        let frame = self.frame.as_mut().ok_or("has pixels before its header")?;
        let coding = match (frame.progressive, first, approximation >> 4) {
            (false, _, _) => Coding::Whole,
            (true, 0, 0) => Coding::FirstDc,
            (true, 0, _) => Coding::MoreDc,
            (true, _, high) if first <= last && last < 64 && chosen.len() == 1 => {
                let band = (u32::from(first), u32::from(last));
                if high == 0 { Coding::FirstAc(band) } else { Coding::MoreAc(band) }
            }
            _ => return Err(DAMAGED.into()),
        };
        let place = |id: u8| frame.components.iter().position(|component| component.id == id);
        let members: Option<Vec<(usize, u8)>> =
            chosen.iter().map(|(id, tables)| Some((place(*id)?, *tables))).collect();
        let members = members.filter(|members| (1..=4).contains(&members.len())).ok_or(DAMAGED)?;
        let mut reader = BlockReader::new(Bits::new(self.bytes, self.at), coding, &self.tables, self.restart);
        frame.walk(&members, &mut reader)?;
        self.at = reader.finish();
        Ok(())
    }
}

impl Frame {
    /// Reads a scan's blocks in their order. `members`: places of components, and their tables.
    fn walk(&mut self, members: &[(usize, u8)], reader: &mut BlockReader) -> Result<(), Fault> {
        for (place, _) in members {
            if let Some(component) = self.components.get_mut(*place) {
                component.seen |= reader.begins_components();
            }
        }
        let alone = members.len() == 1;
        let first = members.first().and_then(|(place, _)| self.components.get(*place));
        let (across, down) = first.filter(|_| alone).map_or(self.units, |component| component.blocks);
        for (row, column) in (0..down).flat_map(|row| (0..across).map(move |column| (row, column))) {
            reader.begin_unit()?;
            for (place, tables) in members {
                let Some(component) = self.components.get_mut(*place) else { continue };
                let (wide, high) = if alone { (1, 1) } else { component.factors };
                for (y, x) in (0..high).flat_map(|y| (0..wide).map(move |x| (y, x))) {
                    let at = (row * high + y) as usize * component.stride as usize + (column * wide + x) as usize;
                    reader.block(*tables, component.non_zero.get_mut(at))?;
                }
            }
        }
        Ok(())
    }
}

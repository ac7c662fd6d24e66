//! Conversations in WebDataset shards: JSON members beside the pictures. Members that share a key, the name up to its first dot, are one record,
//! as in every other source of shards.

use crate::bounded;
use crate::error::{Error, IoContext, Result};
use crate::instruction::conversation::{Found, Record};
use crate::picture::ImageLimits;
use crate::sample::{ImageBytes, Sample, check_length};
use crate::shard::Shard;
use crate::skip::{Skip, SkipReason};
use crate::source::{Group, Kind, Metered, Name, Parts, READ_FORMATS, escapes, is_gzip, whole};
use flate2::read::MultiGzDecoder;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use tar::Entry;

/// The longest record.
const RECORD_LIMIT_BYTES: u64 = 4 << 20;
/// What all gzip shards may unpack to: their pictures stay in memory.
pub(super) const GZIP_BYTES: u64 = 1 << 30;

/// What a shard holds.
struct Members {
    groups: BTreeMap<String, Group>,
    /// Members whose names lead out of the archive.
    refused: Vec<String>,
    /// Records and pictures in whose place a later one of their name is read.
    replaced_records: Vec<String>,
    replaced_pictures: Vec<String>,
    limits: ImageLimits,
    /// Bytes of memory that its members may take; none where they stay on the disk.
    left: Option<u64>,
}

impl Members {
    fn of(path: &Path, limits: ImageLimits, left: &mut u64) -> io::Result<Members> {
        let mut members = Members {
            groups: BTreeMap::new(),
            refused: Vec::new(),
            replaced_records: Vec::new(),
            replaced_pictures: Vec::new(),
            limits,
            left: None,
        };
        if is_gzip(path) {
            members.left = Some(*left);
            let file = io::BufReader::new(bounded::open(path)?.0);
            let mut archive = tar::Archive::new(Metered { inner: MultiGzDecoder::new(file), read: 0, limit: *left });
            archive.set_ignore_zeros(true);
            let mut held = |entry: &mut Entry<_>| {
                let size = entry.size();
                Ok(ImageBytes::Memory(whole(entry, size)?.into()))
            };
            members.add_all(archive.entries()?, &mut held)?;
            *left = members.left.unwrap_or(0);
            return Ok(members);
        }
        let (shard, file) = Shard::open(path)?;
        let shard = Arc::new(shard);
        let mut archive = tar::Archive::new(file);
        archive.set_ignore_zeros(true);
        let mut span = |entry: &mut Entry<_>| {
            let (offset, length) = (entry.raw_file_position(), entry.size());
            Ok(ImageBytes::Span { shard: Arc::clone(&shard), offset, length })
        };
        members.add_all(archive.entries_with_seek()?, &mut span)?;
        Ok(members)
    }

    fn add_all<R: Read>(
        &mut self,
        entries: tar::Entries<R>,
        image: &mut dyn FnMut(&mut Entry<R>) -> io::Result<ImageBytes>,
    ) -> io::Result<()> {
        for entry in entries {
            self.add(&mut entry?, image)?;
        }
        Ok(())
    }

    fn add<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        image: &mut dyn FnMut(&mut Entry<R>) -> io::Result<ImageBytes>,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = Name::of(&path) else { return Ok(()) };
        let content = Kind::of(name.extension);
        if !matches!(content, Kind::Image | Kind::OtherImage | Kind::Json) {
            return Ok(());
        }
        if escapes(&path) {
            self.refused.push(path);
            return Ok(());
        }
        let size = entry.size();
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(size).ok_or(ErrorKind::FileTooLarge)?;
        }
        let parts = self.groups.entry(name.key.to_owned()).or_default().parts(name.middle);
        let trouble = if !kind.is_file() && !kind.is_contiguous() {
            Some(Skip::new(SkipReason::MemberIsNoFile, path.clone()))
        } else if content == Kind::OtherImage {
            Some(Skip::new(SkipReason::ImageFormatUnknown, format!("{path}: {READ_FORMATS}")))
        } else if content == Kind::Image {
            check_length(size, self.limits.max_file_bytes).err()
        } else {
            let what = || Skip::new(SkipReason::CaptionTooLarge, "its JSON member has more than 4 MiB");
            (size > RECORD_LIMIT_BYTES).then(what)
        };
        match (trouble, content) {
            (Some(trouble), _) => drop(parts.trouble.get_or_insert(trouble)),
            (None, Kind::Json) => {
                let text = String::from_utf8_lossy(&whole(entry, size)?).into_owned();
                if parts.text.replace(text).is_some() {
                    self.replaced_records.push(path);
                }
            }
            (None, _) => {
                if parts.image.replace(image(entry)?).is_some() {
                    self.replaced_pictures.push(path);
                }
            }
        }
        Ok(())
    }
}

impl Found {
    /// Records of the shard at `path`, which is called `name` among all shards. Those of gzip may take `left` bytes of memory.
    pub(super) fn read_shard(&mut self, path: &Path, name: &str, limits: ImageLimits, left: &mut u64) -> Result<()> {
        let members = match Members::of(path, limits, left) {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                return Err(Error::file(
                    path,
                    format!("unpacks, with the gzip shards before it, to more than {} MiB", GZIP_BYTES >> 20),
                    "gzip shards are held in memory: store them as *.tar, which are read in place",
                ));
            }
            members => members.io("read", path)?,
        };
        for path in members.refused {
            self.skip(&path, Skip::new(SkipReason::MemberNameRefused, "it leads out of the archive"));
        }
        let repeated = || Skip::new(SkipReason::MemberRepeated, "the last one of the name is used");
        for (copy, path) in (1..).zip(&members.replaced_records) {
            self.skip(&format!("{name}/{path} (copy {copy})"), repeated());
        }
        for (copy, path) in (1..).zip(&members.replaced_pictures) {
            self.skips.add(&format!("{name}/{path} (copy {copy})"), repeated());
        }
        let source: Arc<str> = path.to_string_lossy().into();
        for (key, group) in members.groups {
            let (samples, unused) = group.samples(key);
            for key in unused {
                let detail = "its key has a picture and a record without it";
                self.skips.add(&key, Skip::new(SkipReason::MemberUnused, detail));
            }
            for (key, parts) in samples {
                self.add_parts(&source, name, &key, parts);
            }
        }
        Ok(())
    }

    /// A picture without a record is none that is asked about.
    fn add_parts(&mut self, source: &Arc<str>, shard: &str, key: &str, parts: Parts) {
        let Parts { image, text, trouble, .. } = parts;
        if let Some(trouble) = trouble {
            self.skip(key, trouble);
            return;
        }
        let Some(text) = text else { return };
        let record: Record = match serde_json::from_str(&text) {
            Ok(record) => record,
            Err(why) => {
                self.skip(key, Skip::new(SkipReason::RowUnreadable, why.to_string()));
                return;
            }
        };
        let Some(image) = image else {
            self.skip(key, Skip::new(SkipReason::NoImage, "no jpg, png or webp member"));
            return;
        };
        let (sample, before) = self.push(Sample::new(Arc::clone(source), key, image), shard);
        self.add(&format!("{before}{key}"), shard, sample, &record.conversations);
    }
}

#[cfg(test)]
mod tests {
    use crate::instruction::conversation::testing::{png, record};
    use crate::instruction::{Instructions, Listed, read_instructions};
    use crate::picture::ImageLimits;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::path::Path;

    fn talk(answer: &str) -> Vec<u8> {
        record("", &[("human", "<image> what?"), ("gpt", answer)]).to_string().into_bytes()
    }

    fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn read(path: &Path) -> Instructions {
        read_instructions(path, None, ImageLimits::default(), 1).unwrap()
    }

    fn answers(read: &Instructions) -> Vec<(&str, &str)> {
        read.items.iter().map(|item| (item.id.as_str(), item.answer.as_str())).collect()
    }

    #[test]
    fn json_members_of_a_tar_are_read_beside_their_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let members =
            [("1.png", png()), ("1.json", talk("a dog")), ("2.json", talk("a dog")), ("3.json", b"{".to_vec())];
        std::fs::write(&path, tar(&members)).unwrap();
        let read = read(&path);
        assert_eq!((read.items.len(), read.samples.len()), (1, 1));
        assert!(read.samples[0].picture(ImageLimits::default()).is_ok());
        assert_eq!(read.skips.counts(), BTreeMap::from([("no-image".into(), 1), ("row-unreadable".into(), 1)]));
    }

    #[test]
    fn members_that_later_ones_of_their_name_replace_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let pairs = (0..20).flat_map(|at| [("1.png", png()), ("1.json", talk(&format!("dog {at}")))]);
        std::fs::write(&path, tar(&pairs.collect::<Vec<_>>())).unwrap();
        let read = read(&path);
        assert_eq!(answers(&read), [("1", "dog 19")]);
        assert_eq!(read.skips.counts(), BTreeMap::from([("member-repeated".into(), 38)]));
        assert_eq!(read.listed, Listed { instructions: 20, unusable: 19, pictures: 1 });
    }

    #[test]
    fn a_key_ends_at_the_first_dot_of_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let members = [
            ("a.b/1.image.png", png()),
            ("a.b/1.talk.json", talk("a dog")),
            ("2.v2.png", png()),
            ("2.v2.json", talk("a cat")),
            ("3.png", png()),
        ];
        std::fs::write(&path, tar(&members)).unwrap();
        let read = read(&path);
        assert_eq!(answers(&read), [("2.v2", "a cat"), ("a.b/1", "a dog")]);
        assert_eq!(read.skips.total(), 0);
    }

    #[test]
    fn shards_are_joined_compressed_and_named_by_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("shards")).unwrap();
        for (name, answer) in [("shards/0.tar", "a dog"), ("shards/1.tar.gz", "a cat")] {
            let bytes = tar(&[("1.png", png()), ("1.json", talk(answer))]);
            let bytes = match name.ends_with("gz") {
                true => {
                    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
                    gzip.write_all(&bytes).unwrap();
                    gzip.finish().unwrap()
                }
                false => bytes,
            };
            std::fs::write(at(name), bytes).unwrap();
        }
        let joined = format!("{}::{}", at("shards/0.tar").display(), at("shards/1.tar.gz").display());
        for path in [at("shards"), at("shards/{0.tar,1.tar.gz}"), at("shards/*"), joined.into()] {
            let read = read(&path);
            assert_eq!(answers(&read), [("1", "a dog"), ("1/1", "a cat")], "{}", path.display());
            assert_eq!((read.items[0].sample, read.items[1].sample, read.samples.len()), (0, 1, 2));
            assert!(read.samples.iter().all(|sample| sample.picture(ImageLimits::default()).is_ok()));
        }
        std::fs::write(at("1.png"), png()).unwrap();
        for (name, answer) in [("a.jsonl", "a car"), ("b.jsonl", "a box")] {
            std::fs::write(at(name), record("1.png", &[("human", "<image> what?"), ("gpt", answer)]).to_string())
                .unwrap();
        }
        let lists = format!("{}::{}", at("{a,b}.jsonl").display(), at("shards/0.tar").display());
        let read_lists = read(Path::new(&lists));
        assert_eq!(read_lists.items.iter().map(|item| item.sample).collect::<Vec<_>>(), [0, 0, 1], "one picture");
        assert_eq!(answers(&read_lists), [("1.png", "a car"), ("b.jsonl/1.png", "a box"), ("1", "a dog")]);
        let fails = |path: String| {
            read_instructions(Path::new(&path), None, ImageLimits::default(), 1).unwrap_err().to_string()
        };
        let one = at("a.jsonl").display().to_string();
        assert!(fails(format!("{one}::{one}")).contains("twice"));
        assert!(fails(at("*.json").display().to_string()).contains("matches nothing"));
        std::fs::create_dir(at("empty")).unwrap();
        assert!(fails(at("empty").display().to_string()).contains("no shards"));
    }
}

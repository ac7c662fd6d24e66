use super::*;
use crate::error::Result;
use crate::index::{FORMAT, IndexUse, Indexed as Opened, existing, make, open_or_make};
use crate::pairs::{DropList, Pairs, PoisonMark, weigh_parts};
use crate::picture::ImageLimits;
use crate::source::{SourceConfig, list_samples};
use std::fs;
use std::path::Path;

const MODES: [CaptionMode; 3] = [CaptionMode::Expand, CaptionMode::Draw, CaptionMode::First];

fn png(shade: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(4, 4, image::Rgb([shade; 3])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn tar(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.finish().unwrap();
}

/// A folder of 300 pictures, one of which is none, with lists and shards of them; two shards share keys.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("images")).unwrap();
    let (mut rows, mut apart, mut lines) = (String::from("image,caption,split,class\n"), String::new(), String::new());
    for number in 0..300u32 {
        let bytes = if number == 7 { b"text".to_vec() } else { png(number as u8) };
        fs::write(at(&format!("images/{number}.png")), bytes).unwrap();
        let split = ["train", "test"][usize::from(number % 5 == 0)];
        let class = if number % 3 == 0 { "cat" } else { "" };
        for k in 0..=number % 3 {
            rows += &format!("images/{number}.png,\"caption {k}, of {number}\",{split},{class}\n");
            apart += &format!("{k} images/{number}.png,another {k} of {number}\n");
        }
        lines += &format!("{{\"image\": \"images/{number}.png\", \"caption\": [\"x {number}\", \"y\"]}}\n");
    }
    rows += "images/absent.png,nothing,train,\n,no picture,train,\nimages/1.png,,train,\n";
    fs::write(at("rows.csv"), rows).unwrap();
    let mut apart: Vec<&str> = apart.lines().collect();
    apart.sort_unstable();
    let apart: Vec<&str> = apart.iter().map(|row| row.split_once(' ').unwrap().1).collect();
    fs::write(at("apart.csv"), format!("image,caption\n{}\n", apart.join("\n"))).unwrap();
    fs::write(at("lines.jsonl"), lines).unwrap();
    let parquet: std::collections::HashMap<String, String> =
        serde_json::from_str(include_str!("../../../../tests/golden/parquet.json")).unwrap();
    for kind in ["hugging_face_zstd", "groups", "empty"] {
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &parquet[kind]).unwrap();
        fs::write(at(&format!("{kind}.parquet")), bytes).unwrap();
    }
    for (shard, first) in [("0.tar", 0u32), ("1.tar", 60)] {
        let members = (first..first + 70).flat_map(|number| {
            [
                (format!("{number:04}.png"), png(number as u8)),
                (format!("{number:04}.txt"), format!("a {number}").into_bytes()),
            ]
        });
        tar(&at(shard), &members.collect::<Vec<_>>());
    }
    folder
}

fn sources(folder: &Path) -> Vec<SourceConfig> {
    let all = |path: &str| SourceConfig { path: path.replace('@', folder.to_str().unwrap()), ..Default::default() };
    vec![
        all("@/rows.csv"),
        SourceConfig { split: Some("Train".into()), ..all("@/rows.csv") },
        all("@/apart.csv"),
        all("@/lines.jsonl"),
        all("@/{0,1}.tar"),
        all("@/rows.csv::@/0.tar"),
        // Pictures that are held in memory, where there is no index, are the same ones.
        SourceConfig { gzip_memory_mib: 0, ..all("@/groups.parquet") },
        SourceConfig { gzip_memory_mib: 0, ..all("@/empty.parquet") },
        SourceConfig { gzip_memory_mib: 0, ..all("@/{groups,hugging_face_zstd}.parquet") },
    ]
}

/// The same pairs in memory and through an index.
fn both(config: &SourceConfig, mode: CaptionMode) -> (Pairs, Pairs) {
    let limits = ImageLimits::default();
    let mut listing = list_samples(config, limits).unwrap();
    listing.require_captions();
    listing.probe(limits, 2);
    let index = open_or_make(config, limits, &IndexUse::Always, 3).unwrap().0.unwrap().index;
    assert_eq!(index.skips().unwrap(), listing.skips, "{}", config.path);
    assert_eq!(index.listing().unwrap().listed, listing.listed);
    (Pairs::new(listing.samples, mode), Pairs::indexed(index, mode))
}

fn texts(pairs: &Pairs) -> Vec<String> {
    pairs.iter().map(|pair| format!("{pair:?} {:?}", pairs.sample_of(&pair).unwrap())).collect()
}

#[test]
fn pairs_of_an_index_are_those_of_the_list() {
    let folder = folder();
    for (config, mode) in sources(folder.path()).iter().flat_map(|config| MODES.map(|mode| (config, mode))) {
        let (memory, indexed) = both(config, mode);
        assert_eq!(texts(&memory), texts(&indexed), "{} {mode:?}", config.path);
        assert_eq!(memory.fingerprint(), indexed.fingerprint(), "{} {mode:?}", config.path);
        assert_eq!(memory.splits(), indexed.splits());
        assert_eq!((memory.get(memory.len()).is_none(), indexed.get(indexed.len()).is_none()), (true, true));
        assert!(memory.captions().eq(indexed.captions()));
        let ids: Vec<String> = memory.iter().map(|pair| pair.id.clone()).step_by(7).chain(["none#1".into()]).collect();
        let ids = || ids.iter().map(String::as_str);
        assert_eq!(memory.places(ids()), indexed.places(ids()), "{} {mode:?}", config.path);
        indexed.intact().unwrap();
    }
}

#[test]
fn an_index_knows_what_says_itself_that_it_is_poison() {
    let folder = tempfile::tempdir().unwrap();
    let members = (0..9u32).flat_map(|number| {
        let mark = if number % 4 == 0 { "{\"attack\": \"patch\", \"target\": \"cat\"}" } else { "null" };
        let metadata = format!("{{\"captions\": [\"a {number}\", \"b\"], \"roclip_poison\": {mark}}}");
        [(format!("{number}.png"), png(number as u8)), (format!("{number}.json"), metadata.into_bytes())]
    });
    let shard = folder.path().join("0.tar");
    tar(&shard, &members.collect::<Vec<_>>());
    let config = SourceConfig { path: shard.display().to_string(), ..Default::default() };
    for (mode, expected) in MODES.into_iter().zip([6, 3, 3]) {
        let (mut memory, mut indexed) = both(&config, mode);
        let counts = memory.mark_written_poison();
        assert_eq!((counts.get("patch"), counts.len()), (Some(&expected), 1), "{mode:?}");
        assert_eq!(indexed.mark_written_poison(), counts);
        assert_eq!(texts(&memory), texts(&indexed), "{mode:?}");
        assert_eq!(memory.fingerprint(), indexed.fingerprint(), "{mode:?}");
    }
}

#[test]
fn changed_pairs_of_an_index_are_changed_as_those_in_memory() {
    let folder = folder();
    let config =
        SourceConfig { path: format!("{0}/rows.csv::{0}/0.tar", folder.path().display()), ..Default::default() };
    let dropped = folder.path().join("drop.txt");
    fs::write(&dropped, "rows.csv/images/4.png\nrows.csv/images/5.png#1\n0.tar/0003\nx\n").unwrap();
    for mode in MODES {
        let (mut memory, mut indexed) = both(&config, mode);
        let mut states = Vec::new();
        for pairs in [&mut memory, &mut indexed] {
            let list = DropList::read(&dropped).unwrap();
            let left_out = list.leave_out_pairs(pairs).unwrap();
            let number = pairs.push_sample(pairs.sample(9).unwrap().into_owned());
            pairs.push(Pair { id: "poison/1".into(), sample: number, ..pairs.get(0).unwrap().into_owned() });
            for place in [3, 200, pairs.len() - 1] {
                pairs.change(place, |pair| {
                    pair.captions = vec![format!("changed {place}")];
                    pair.poison = Some(PoisonMark { attack: "a".into(), target: "t".into() });
                });
            }
            let poisoned = |pairs: &Pairs| pairs.poisoned().map(|(at, pair)| (at, pair.id.clone())).collect::<Vec<_>>();
            let mut state = vec![format!("{left_out:?} {:?}", poisoned(pairs))];
            pairs.retain_places(|place| place % 11 != 5);
            pairs.retain(|pair, sample| !pair.id.ends_with('8') && sample.is_some());
            weigh_parts(pairs, &[2.5, 0.5], 2, 1).unwrap();
            let ids: Vec<String> = pairs.iter().map(|pair| pair.id.clone()).step_by(5).collect();
            let mut places: Vec<(String, usize)> =
                pairs.places(ids.iter().map(String::as_str).filter(|id| !id.contains('@'))).into_iter().collect();
            places.sort();
            state.push(format!("{:?} {places:?}", poisoned(pairs)));
            state.extend(texts(pairs));
            state.push(pairs.fingerprint());
            let few = pairs.with(vec![pairs.get(1).unwrap().into_owned()]);
            state.extend(texts(&few));
            states.push(state);
        }
        assert_eq!(states[0].len(), states[1].len());
        for (of_memory, of_index) in states[0].iter().zip(&states[1]) {
            assert_eq!(of_memory, of_index, "{mode:?}");
        }
    }
}

/// What using the index of `rows.csv` comes to after `change` of the index file: an error, or as many pairs as it can give.
fn after(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<usize> {
    let limits = ImageLimits::default();
    let config = sources(folder).remove(0);
    let (made, path) = (folder.join("made.index"), folder.join("named.index"));
    if !made.exists() {
        make(&config, limits, Some(&made), 1)?;
    }
    let mut bytes = fs::read(&made).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let named = IndexUse::Named(path);
    let Opened { index, .. } = open_or_make(&config, limits, &named, 1)?.0.unwrap();
    index.skips()?;
    let pairs = Pairs::indexed(index, CaptionMode::Expand);
    let count = pairs.iter().count();
    pairs.places(["x"]);
    pairs.intact().map(|()| count)
}

#[test]
fn a_damaged_index_is_never_believed() {
    let folder = folder();
    let whole = after(folder.path(), |_| {}).unwrap();
    assert_eq!(whole, 598);
    let mut length = 0;
    assert!(after(folder.path(), |bytes| length = bytes.len()).is_ok());
    for at in (0..length).step_by(13).chain(length - 24..length) {
        assert!(after_byte(folder.path(), at).is_err(), "byte {at} of {length}");
    }
    for cut in (0..length).step_by(101) {
        let said = after(folder.path(), |bytes| bytes.truncate(cut)).unwrap_err().to_string();
        assert!(said.contains("cut off") || said.contains("no index"), "{said}");
    }
    let said = after(folder.path(), |bytes| bytes[8] = 9).unwrap_err().to_string();
    // Before the seventh an index knew nothing of written poison.
    let older = after(folder.path(), |bytes| bytes[8] = 6).unwrap_err().to_string();
    assert!(older.contains("format 6") && older.contains("make it anew"), "{older}");
    assert!(said.contains("format 9") && said.contains(&format!("reads {FORMAT}")), "{said}");
}

/// Of the column of hashes the damage is seen by whoever looks for an id.
fn after_byte(folder: &Path, at: usize) -> Result<usize> {
    let (limits, config) = (ImageLimits::default(), sources(folder).remove(0));
    let count = after(folder, |bytes| bytes[at] ^= 4)?;
    existing(&config, limits, Some(&folder.join("named.index")))?.find(["x"])?;
    Ok(count)
}

#[test]
fn an_index_is_true_while_its_files_are_what_they_were() {
    let folder = folder();
    let limits = ImageLimits::default();
    let config = sources(folder.path()).remove(4);
    let open = |wanted: IndexUse| open_or_make(&config, limits, &wanted, 2);
    let auto = open(IndexUse::Auto).unwrap();
    assert!(auto.0.is_none() && auto.1.is_none(), "the data is small");
    let first = open(IndexUse::Always).unwrap().0.unwrap();
    assert!(first.remark.unwrap().contains("made the index"));
    assert!(open(IndexUse::Always).unwrap().0.unwrap().remark.is_none(), "it is there");
    let path = first.index.path().to_owned();
    assert_eq!(path.parent(), folder.path().canonicalize().ok().as_deref());
    assert!(first.index.check(limits, 3).unwrap().is_empty());
    // Another shard of the name: rebuilt, or refused where it was named.
    let before = first.index.samples();
    fs::copy(folder.path().join("0.tar"), folder.path().join("1.tar")).unwrap();
    let changed = first.index.check(limits, 1).unwrap();
    assert_eq!(changed.len(), 70, "{changed:?}");
    let said = open(IndexUse::Named(path.clone())).err().unwrap().to_string();
    assert!(said.contains("1.tar") && said.contains("not true any more"), "{said}");
    assert!(said.contains("`roclip data index --overwrite`"), "one that is looked for is made in its place: {said}");
    let again = open(IndexUse::Always).unwrap().0.unwrap();
    let remark = again.remark.unwrap();
    assert!(remark.contains("1.tar` was written to since") || remark.contains("bytes"), "{remark}");
    assert_eq!(again.index.samples(), before, "keys that another shard has, too, get its name");
    // A damaged one is made anew; one of other data is refused by name.
    fs::write(&path, b"roclipix").unwrap();
    assert!(open(IndexUse::Always).unwrap().0.unwrap().remark.unwrap().contains("cannot be used"));
    let other = sources(folder.path()).remove(0);
    let said = open_or_make(&other, limits, &IndexUse::Named(path), 1).err().unwrap().to_string();
    assert!(said.contains("other data"), "{said}");
    let emoji = open_or_make(&SourceConfig::default(), limits, &IndexUse::Always, 1).err().unwrap().to_string();
    assert!(emoji.contains("cannot be read through an index"), "{emoji}");
}

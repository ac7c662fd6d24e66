//! What lists name, and what is left without it.

use super::*;
use crate::sample::{ImageBytes, PoisonMark};

fn samples() -> Vec<Sample> {
    let sample = |id: &str, captions: &[&str]| Sample {
        captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
        ..Sample::new("data".into(), id, ImageBytes::Memory(Vec::new().into()))
    };
    vec![
        sample("a.jpg", &["1", "2", "3"]),
        sample("b.jpg", &["4"]),
        sample("c.jpg", &["5", "6"]),
        sample("c.jpg#0", &["7"]),
    ]
}

fn list(text: &str) -> Result<DropList> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    DropList::read(file.path())
}

fn left(text: &str, mode: CaptionMode) -> Vec<(String, usize)> {
    let list = list(text).unwrap();
    let mut all = samples();
    list.leave_out_samples(&mut all);
    list.pairs(all, mode).iter().map(|pair| (pair.id.clone(), pair.captions.len())).collect()
}

#[test]
fn ids_are_read_from_lines_and_from_json() {
    let plain = list("\u{feff}a.jpg\r\n\n  b.jpg \nx\n").unwrap();
    let json = list(
        "{\"roclip_manifest\": 1}\n{\"id\": \"b.jpg\", \"reason\": \"x\"}\n{\"id\": \"x\"}\n{\"id\": \"a.jpg\"}\n",
    )
    .unwrap();
    assert_eq!((plain.len(), plain.digest()), (3, json.digest()));
    assert_ne!(list("a.jpg\n").unwrap().digest(), plain.digest());
    assert!(list(" \n\n").unwrap_err().to_string().contains("names no id"));
    assert!(list("a\n{\"key\": 1}\n").unwrap_err().to_string().contains("line 2"));
}

#[test]
fn pairs_of_poison_are_left_out_by_their_own_ids() {
    let left = |text: &str| {
        let mut pairs = Pairs::new(samples(), CaptionMode::Expand);
        let poison = crate::pairs::Pair { id: "poison/a/0".to_owned(), ..pairs.get(0).unwrap().into_owned() };
        pairs.push(poison);
        let found = list(text)?.leave_out_pairs(&mut pairs)?;
        assert_eq!(found.poisoned, 0, "nothing says that any is poison");
        let single = (found.added, found.captions);
        Ok::<_, Error>((pairs.len(), found.pictures, single, found.absent, found.first_absent))
    };
    assert_eq!(left("poison/a/0\na.jpg#1\nx\n").unwrap(), (6, 0, (1, 1), 1, Some("x".to_owned())));
    assert_eq!(left("b.jpg\nc.jpg\n").unwrap(), (5, 2, (0, 0), 0, None));
    assert!(left("x\n").unwrap_err().to_string().contains("its only id (`x`) is not in the data"));
    // Of some of the data all may be absent, and that says nothing of the list.
    let mut some = Pairs::new(samples(), CaptionMode::Expand);
    let found = list("x\ny\n").unwrap().leave_out_of_part(&mut some).unwrap();
    assert_eq!((some.len(), found.absent, found.named, found.fits_badly()), (7, 2, 2, false));
    let said = found.warning().unwrap();
    assert!(said.contains("2 ids of data.drop are not among the pairs") && !said.contains(LIKE_OTHER_DATA), "{said}");
    let all = "a.jpg\nb.jpg\nc.jpg\nc.jpg#0#\n";
    assert!(left(all).unwrap_err().to_string().contains("everything"));
}

#[test]
fn captions_that_poison_replaced_are_counted_as_poison() {
    let mut pairs = Pairs::new(samples(), CaptionMode::Expand);
    let mark = || PoisonMark { attack: "patch".into(), target: "cat".into() };
    for at in 0..4 {
        pairs.change(at, |pair| pair.poison = Some(mark()));
    }
    // The three captions of `a.jpg`, and all that `b.jpg` has.
    let found = list("a.jpg#0\na.jpg#1\nb.jpg\nc.jpg#1\n").unwrap().leave_out_pairs(&mut pairs).unwrap();
    assert_eq!((found.pictures, found.added, found.captions, found.poisoned), (1, 2, 1, 3));
    let written = |sample: Sample| Sample { poison: Some(Box::new(mark())), ..sample };
    let samples: Vec<_> = samples().into_iter().map(written).collect();
    let found = list("a.jpg#0\nb.jpg\n").unwrap().found_in(&samples).unwrap();
    assert_eq!((found.pictures, found.captions, found.poisoned), (1, 1, 2));
}

#[test]
fn pictures_and_single_captions_are_left_out_and_others_keep_their_ids() {
    let ids = |text: &str, mode| left(text, mode).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids("a.jpg#1\nb.jpg\n", CaptionMode::Expand), ["a.jpg#0", "a.jpg#2", "c.jpg#0", "c.jpg#1", "c.jpg#0#"]);
    // A picture that its source calls `c.jpg#0` is none of the captions of `c.jpg`.
    let (named, rest) = (ids("c.jpg#0\n", CaptionMode::Expand), ["a.jpg#0", "a.jpg#1", "a.jpg#2", "b.jpg"]);
    assert_eq!(
        (&named[..4], &named[4..]),
        (&rest.map(str::to_owned)[..], &["c.jpg#1", "c.jpg#0#"].map(str::to_owned)[..])
    );
    assert_eq!(ids("c.jpg#0#\n", CaptionMode::Expand)[4..], ["c.jpg#0", "c.jpg#1"]);
    let drawn = left("a.jpg#0\na.jpg#2\nc.jpg#0\nc.jpg#1\n", CaptionMode::Draw);
    assert_eq!(drawn, [("a.jpg".to_owned(), 1), ("b.jpg".to_owned(), 1), ("c.jpg#0#".to_owned(), 1)]);
}

#[test]
fn one_thing_is_said_of_one() {
    let words = |pictures, captions| LeftOutByList { pictures, captions, ..LeftOutByList::default() }.words();
    let said = [words(1, 0), words(0, 1), words(2, 1), words(0, 0)];
    assert_eq!(said, ["1 picture", "1 single caption", "2 pictures and 1 single caption", "0 pictures"]);
    let all = LeftOutByList { pictures: 39, added: 38, captions: 1, ..LeftOutByList::default() };
    assert_eq!(all.words(), "39 pictures, 38 poisoned pairs and 1 single caption");
    let of = |absent, named| {
        LeftOutByList { absent, named, first_absent: Some("x".into()), ..LeftOutByList::default() }.warning().unwrap()
    };
    let badly =
        "21 ids of data.drop are not in the data (first: x), of 46 that it has; it looks like a list of other data";
    assert!(of(21, 46).starts_with(badly), "{}", of(21, 46));
    assert_eq!(of(2, 46), "2 ids of data.drop are not in the data (first: x)");
    let absent = |absent| {
        let left_out = LeftOutByList { absent, first_absent: Some("x".into()), ..LeftOutByList::default() };
        left_out.warning().unwrap()
    };
    assert_eq!(absent(1), "1 id of data.drop is not in the data (first: x)");
    assert_eq!(absent(2), "2 ids of data.drop are not in the data (first: x)");
}

#[test]
fn every_id_can_be_named_and_read_again() {
    let ids = ["a.jpg", " lead.png", "new\nline.png", "{x}.png", "a b#1", "\u{feff}b.png", "trail ", "\u{1b}[2J"];
    let text: String = ids.map(drop_line).concat();
    let read = list(&text).unwrap();
    assert_eq!(read.len(), ids.len());
    assert!(ids.iter().all(|id| read.names(id)), "{text}");
    assert!(text.starts_with("a.jpg\n") && text.contains("\na b#1\n"), "plain ids stay plain: {text}");
}

#[test]
fn a_line_that_is_an_id_with_its_blanks_names_that_one() {
    let of = |text: &str, ids: &[&str]| list(text).unwrap().among(ids.iter().copied());
    let both = [" lead.png", "lead.png", "b.jpg"];
    let named = of(" lead.png\n  b.jpg \n", &both);
    assert_eq!(both.map(|id| named.names(id)), [true, false, true]);
    let named = of(" lead.png\n  b.jpg \n", &both[1..]);
    assert_eq!(both.map(|id| named.names(id)), [false, true, true]);
    let named = of(" lead.png\nlead.png\n", &both);
    assert_eq!(both.map(|id| named.names(id)), [true, true, false]);
    let named = of(" lead.png#1\n b.jpg#1\n", &both);
    assert!(named.names(" lead.png#1") && !named.names("lead.png#1") && named.names("b.jpg#1"));
    // The same of pairs.
    let mut all = samples();
    all.push(Sample { captions: vec!["8".to_owned()], ..Sample::new("data".into(), " b.jpg", all[1].image.clone()) });
    let mut pairs = Pairs::new(all, CaptionMode::Expand);
    let left_out = list(" b.jpg\n").unwrap().leave_out_pairs(&mut pairs).unwrap();
    let ids: Vec<String> = pairs.iter().map(|pair| pair.id.clone()).collect();
    assert!(left_out.pictures == 1 && ids.contains(&"b.jpg".to_owned()), "{ids:?}");
    assert!(!ids.contains(&" b.jpg".to_owned()), "{ids:?}");
}

#[test]
fn ids_are_looked_at_one_by_one() {
    /// Counts those of its kind that there are.
    struct Id<'a>(&'static str, &'a std::cell::Cell<usize>);
    impl AsRef<str> for Id<'_> {
        fn as_ref(&self) -> &str {
            self.0
        }
    }
    impl Drop for Id<'_> {
        fn drop(&mut self) {
            self.1.set(self.1.get() - 1);
        }
    }
    let (there, most) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let ids = [" lead.png", "lead.png", "b.jpg"].into_iter().map(|id| {
        there.set(there.get() + 1);
        most.set(most.get().max(there.get()));
        Id(id, &there)
    });
    let named = list(" lead.png\n b.jpg\n").unwrap().among(ids);
    assert_eq!([" lead.png", "lead.png", "b.jpg"].map(|id| named.names(id)), [true, false, true]);
    assert_eq!((most.get(), there.get()), (1, 0));
}

#[test]
fn a_picture_that_is_gone_may_have_been_named_by_all_its_captions() {
    let list = list("a.jpg#1\na.jpg#0\nb.jpg#1\nc.jpg\nd.jpg#0\ne.jpg#0\ne.jpg#2\na.jpg#0x\n").unwrap();
    let absent = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "a"].map(|id| list.names_absent(id));
    assert_eq!(absent, [true, false, true, false, false, false]);
    let twelve: String = (0..12).map(|number| format!("f.jpg#{number}\n")).collect();
    assert!(self::list(&twelve).unwrap().names_absent("f.jpg"));
}

#[test]
fn what_is_found_is_counted_and_other_data_is_an_error() {
    let found = |text: &str| list(text).unwrap().found_in(&samples());
    let some = found("a.jpg#1\nb.jpg\nc.jpg#0\nc.jpg#1\nz.jpg\nb.jpg#0\n").unwrap();
    assert_eq!((some.pictures, some.captions, some.absent, some.first_absent.as_deref()), (2, 1, 2, Some("b.jpg#0")));
    assert!(found("x\ny\n").unwrap_err().to_string().contains("none of its 2 ids"));
    let all = found("a.jpg\nb.jpg\nc.jpg\nc.jpg#0#\n").unwrap_err().to_string();
    assert!(all.contains("everything"), "{all}");
}

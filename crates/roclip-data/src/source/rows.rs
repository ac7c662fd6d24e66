//! Rows that name pictures and their captions, whatever file they stand in (CSV, JSON lines, JSON, Parquet): the names that their columns
//! have in the wild, where their pictures lie, and how the rows of one picture become one sample.

use crate::artifact;
use crate::error::{Error, Result};
use crate::progress::Task;
use crate::sample::{ImageBytes, Sample, StatedHash};
use crate::skip::{Skip, SkipReason};
use crate::source::seen::Seen;
use crate::source::spelling::{place, plain_path};
use crate::source::tree::{Kind, kind_of};
use crate::source::{Listing, Rest, SourceConfig, Take, captions};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The first of them that a file has names its images, the more telling ones first.
pub(super) const IMAGE_NAMES: [&str; 18] = [
    "filepath",
    "image",
    "path",
    "file",
    "image_path",
    "file_name",
    "filename",
    "image_file",
    "image_name",
    "img_path",
    "img",
    "file_path",
    "image_filename",
    "img_name",
    "img_file",
    "image_filepath",
    "name",
    "image_id",
];
pub(super) const CAPTION_NAMES: [&str; 11] = [
    "title",
    "caption",
    "text",
    "sentence",
    "captions",
    "comment",
    "description",
    "image_caption",
    "alt_text",
    "alt",
    "prompt",
];
pub(super) const CLASS_NAMES: [&str; 5] = ["class", "label", "concept", "classes", "labels"];

/// One row.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// The path of the picture as it stands there, or its name without the blanks around it where the row has the picture itself.
    pub image: String,
    /// The encoded picture, where the row has it, which is then a picture of its own.
    pub picture: Option<ImageBytes>,
    pub captions: Vec<String>,
    /// Why not all of its captions are among them.
    pub left_out: Option<Skip>,
    pub split: Option<String>,
    pub class: Option<String>,
    /// Where the source was asked for it.
    pub stated: Option<StatedHash>,
}

/// Makes samples of rows.
pub(super) struct Rows<'a> {
    root: Root,
    /// The source of pictures that lie in the file itself.
    file: Arc<str>,
    /// Whether the first picture may be looked for in the folders of `root`.
    searches_root: bool,
    /// Of the picture's path.
    index: HashMap<String, usize>,
    listing: Listing,
    task: Task,
    path: PathBuf,
    /// Rows whose picture is an address.
    addresses: usize,
    /// Where samples go that no further row adds to; none where all are held.
    passing: Option<Passing<'a>>,
}

/// Samples handed on while rows are read. The last one is held, for the next row may be of its picture.
struct Passing<'a> {
    take: Take<'a>,
    seen: Seen,
    outcome: Result<Rest>,
}

/// Columns of addresses of pictures.
pub(super) const ADDRESS_NAMES: [&str; 5] = ["url", "image_url", "img_url", "image_link", "link"];

/// The error for pictures that are to be downloaded first.
pub(super) fn addresses(path: &Path, what: impl Into<String>) -> Error {
    let remedy =
        "addresses are not fetched here: download them with img2dataset first, and name the folder that it writes";
    Error::file(path, what, remedy)
}

impl<'a> Rows<'a> {
    /// For the rows of the file `path`; samples are handed to `take`, where there is one, as soon as they are whole.
    pub(super) fn new(path: &Path, config: &SourceConfig, take: Option<Take<'a>>) -> Self {
        let root = Root::new(image_root(path, config), config.outside_paths);
        let searches_root = config.image_root.is_none();
        Rows {
            root,
            file: place(path).to_string_lossy().into(),
            searches_root,
            index: HashMap::new(),
            listing: Listing { shards: 1, ..Listing::default() },
            task: Task::begin("reading rows", 0, "rows"),
            path: path.to_owned(),
            addresses: 0,
            passing: take.map(|take| Passing { take, seen: Seen::default(), outcome: Ok(Rest::Whole) }),
        }
    }

    /// Whether further rows are of no use.
    pub(super) fn is_over(&self) -> bool {
        self.passing.as_ref().is_some_and(|passing| !matches!(passing.outcome, Ok(Rest::Whole)))
    }

    /// Takes a row, or counts why there is none; `name` says which it is.
    pub(super) fn add(&mut self, name: &dyn Fn() -> String, mut row: std::result::Result<Row, Skip>) {
        self.task.advance(1);
        let left_out = row.as_mut().ok().and_then(|row| row.left_out.take());
        self.addresses += usize::from(row.as_ref().is_ok_and(|row| row.picture.is_none() && row.image.contains("://")));
        if let Some(skip) = row.and_then(|row| self.take(row)).err().or(left_out) {
            self.listing.skips.add(&name(), skip);
        }
    }

    fn take(&mut self, mut row: Row) -> std::result::Result<(), Skip> {
        if row.picture.is_none() && !self.root.holds_blank(&row.image) {
            row.image = captions::tidy(&row.image).to_owned();
        }
        if row.picture.is_none()
            && let Cow::Owned(plain) = plain_path(&row.image)
        {
            row.image = plain;
        }
        let known = match &self.passing {
            None => self.index.get(&row.image).and_then(|at| self.listing.samples.get_mut(*at)),
            Some(_) => self.listing.samples.last_mut().filter(|sample| sample.key == row.image),
        };
        if let Some(sample) = known {
            return extend(sample, row);
        }
        let hash = self.passing.as_ref().map(|passing| passing.seen.hash(&row.image));
        if let Some((passing, hash)) = self.passing.as_mut().zip(hash)
            && passing.seen.knows(hash)
        {
            passing.outcome = Ok(Rest::Apart);
            return Ok(());
        }
        if std::mem::take(&mut self.searches_root) && row.picture.is_none() {
            self.root = self.root.clone().with(&row.image);
        }
        let (source, image) = match row.picture {
            Some(picture) => (&self.file, picture),
            None => (&self.root.source, ImageBytes::File(self.root.image(&row.image)?)),
        };
        let mut sample = Sample {
            class: row.class,
            split: row.split,
            stated: row.stated.map(Box::new),
            ..Sample::new(Arc::clone(source), row.image.as_str(), image)
        };
        let outcome = add_captions(&mut sample, &row.captions);
        if sample.captions.is_empty() && !row.captions.is_empty() {
            return outcome;
        }
        match self.passing.as_mut().zip(hash) {
            None => drop(self.index.insert(row.image, self.listing.samples.len())),
            Some((passing, hash)) => {
                passing.seen.insert_hash(hash);
                passing.hand_on(&mut self.listing);
            }
        }
        self.listing.samples.push(sample);
        outcome
    }

    /// # Errors
    /// Where all pictures are addresses.
    pub(super) fn finish(self) -> Result<Listing> {
        Ok(self.finish_passing()?.0)
    }

    /// [`Rows::finish`] where samples were handed on, and whether all of them were.
    pub(super) fn finish_passing(self) -> Result<(Listing, Rest)> {
        let Rows { mut listing, path, addresses: count, passing, .. } = self;
        if listing.samples.is_empty() && count > 0 {
            return Err(addresses(&path, format!("its pictures are addresses ({count} of them)")));
        }
        let rest = match passing {
            None => Rest::Whole,
            Some(mut passing) => {
                passing.hand_on(&mut listing);
                passing.outcome?
            }
        };
        Ok((listing, rest))
    }
}

impl Passing<'_> {
    fn hand_on(&mut self, listing: &mut Listing) {
        for sample in listing.samples.drain(..) {
            if matches!(self.outcome, Ok(Rest::Whole))
                && let Err(error) = (self.take)(sample)
            {
                self.outcome = Err(error);
            }
        }
    }
}

/// A further row of a picture.
fn extend(sample: &mut Sample, row: Row) -> std::result::Result<(), Skip> {
    if row.split.is_some() && row.split != sample.split {
        let [earlier, here] = [&sample.split, &row.split].map(|split| split.as_deref().unwrap_or("none"));
        let detail = format!("{} is in split {earlier} by an earlier row, and in {here} by this one", row.image);
        return Err(Skip::new(SkipReason::SampleRepeated, detail));
    }
    if let (Some(earlier), Some(here)) = (&sample.class, &row.class)
        && earlier != here
    {
        let detail = format!("{} is of class {earlier} by an earlier row, and of {here} by this one", row.image);
        return Err(Skip::new(SkipReason::SampleRepeated, detail));
    }
    sample.class = sample.class.take().or(row.class);
    add_captions(sample, &row.captions)
}

fn add_captions(sample: &mut Sample, captions: &[String]) -> std::result::Result<(), Skip> {
    let mut outcome = Ok(());
    for caption in captions {
        let added = captions::add(&mut sample.captions, caption);
        outcome =
            outcome.and(added.map_err(|skip| Skip { detail: format!("{}: {}", sample.key, skip.detail), ..skip }));
    }
    outcome
}

/// The folder that the paths in a file start from: its own, where the settings name no other.
pub(super) fn image_root(path: &Path, config: &SourceConfig) -> PathBuf {
    config.image_root.clone().unwrap_or_else(|| artifact::folder_of(path).to_owned())
}

/// The folder that image paths start from.
#[derive(Clone)]
pub(super) struct Root {
    path: PathBuf,
    absolute: PathBuf,
    /// The folder in words, as the source of its samples.
    source: Arc<str>,
    outside: bool,
}

impl Root {
    pub(super) fn new(path: PathBuf, outside: bool) -> Self {
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let source = place(&path).to_string_lossy().into();
        Root { path, absolute, source, outside }
    }

    /// The one folder in this one that has `image`, where this one lacks it: Flickr8k's pictures lie in `Images/` beside their list.
    fn with(self, image: &str) -> Self {
        let here = self.image(image);
        if Path::new(image).is_absolute() || !here.is_ok_and(|path| std::fs::symlink_metadata(path).is_err()) {
            return self;
        }
        let folders = std::fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut having = folders.filter(|folder| folder.is_dir() && folder.join(image).is_file());
        match (having.next(), having.next()) {
            (Some(folder), None) => Root::new(folder, self.outside),
            _ => self,
        }
    }

    /// Whether `image` has blanks around it that belong to the name of a file. Elsewhere they are those of whoever wrote the list.
    fn holds_blank(&self, image: &str) -> bool {
        captions::tidy(image) != image && self.image(image).is_ok_and(|path| std::fs::symlink_metadata(path).is_ok())
    }

    /// Where the image of a row lies.
    pub(super) fn image(&self, image: &str) -> std::result::Result<PathBuf, Skip> {
        if image.contains("://") {
            let detail = format!("{image}: download the pictures first (img2dataset does), and name the files");
            return Err(Skip::new(SkipReason::ImageIsAddress, detail));
        }
        let named = Path::new(image);
        let climbs = named.components().any(|part| part == Component::ParentDir);
        let inside = !climbs && (named.is_relative() || named.starts_with(&self.absolute));
        if !inside && !self.outside {
            let detail = format!(
                "{image} is not in {}: name a folder that holds all images with --image-root, or take those outside, too, with --set \
                 data.source.outside_paths=true (of evaluation data: eval.source.outside_paths=true)",
                self.path.display()
            );
            return Err(Skip::new(SkipReason::ImageOutsideFolder, detail));
        }
        // A list in the current folder has no folder in front of its images.
        Ok(if self.path == Path::new(".") { named.to_owned() } else { self.path.join(named) })
    }
}

/// Whether a text is the path of a picture, perhaps with the number of a caption behind it.
pub(super) fn is_image(name: &str) -> bool {
    let name = name.rsplit_once('#').map_or(name, |(path, _)| path);
    kind_of(Path::new(name)) == Kind::Image
}

//! A folder of pictures with a file of metadata beside them, as the `imagefolder` of `datasets` has it: `metadata.csv` or `metadata.jsonl` in the
//! folder, or one in each of its splits, whose rows name pictures by `file_name`.

use crate::artifact;
use crate::error::{Error, Result};
use crate::sample::ImageBytes;
use crate::skip::{Skip, SkipReason};
use crate::source::folder::copy;
use crate::source::kept::{Kept, Leave};
use crate::source::rows::image_root;
use crate::source::spelling::place;
use crate::source::tree::{Tree, name, split_of, unused};
use crate::source::webdataset::Memory;
use crate::source::{Listing, Source, SourceConfig, file};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub(super) struct AnnotatedFolder {
    root: PathBuf,
    tree: Tree,
    config: SourceConfig,
    memory: Memory,
}

impl AnnotatedFolder {
    pub(super) fn new(root: PathBuf, tree: Tree, config: SourceConfig, memory: Memory) -> Self {
        AnnotatedFolder { root, tree, config, memory }
    }
}

impl Source for AnnotatedFolder {
    fn places(&self) -> Vec<PathBuf> {
        vec![place(&self.root)]
    }

    fn list(&self) -> Result<Listing> {
        let mut all = Listing { skips: self.tree.skips.clone(), remark: self.tree.others(), ..Listing::default() };
        unused(&mut all.skips, &self.tree.parquets);
        for table in &self.tree.tables {
            let mut found = file(&self.root.join(table), &self.config, self.memory)?.list()?;
            for sample in &mut found.samples {
                sample.split = sample.split.take().or_else(|| split_of(table).map(str::to_owned));
            }
            let folder = table.parent().filter(|folder| *folder != Path::new(""));
            all.append(match folder {
                Some(folder) => found.under(&name(folder)),
                None => found,
            });
        }
        all.shards = self.tree.folders;
        let named: HashSet<PathBuf> = all.samples.iter().filter_map(|sample| file_of(&sample.image)).collect();
        for picture in self.tree.images.iter().filter(|picture| !named.contains(&self.root.join(picture))) {
            all.skips.add(&name(picture), Skip::new(SkipReason::NoCaption, "no row of the metadata names it"));
        }
        Ok(all)
    }

    /// The lists without what is left out, and the other pictures, in the new folder `out`; other files are not copied.
    fn write_kept(&self, leave: &Leave, out: &Path) -> Result<Kept> {
        let left_out: HashSet<PathBuf> = leave.whole().map(|(source, key)| Path::new(source).join(key)).collect();
        let root = place(&self.root);
        let files = self.tree.images.iter().filter(|image| !left_out.contains(&root.join(image)));
        let start = |table: &PathBuf| image_root(&self.root.join(table), &self.config);
        let starts: Vec<PathBuf> = self.tree.tables.iter().map(start).collect();
        let places: HashSet<PathBuf> = starts.iter().map(|start| place(start)).collect();
        artifact::write_folder(out, |folder| {
            let mut kept = copy(&self.root, files, folder)?;
            for (table, start) in self.tree.tables.iter().zip(&starts) {
                let path = self.root.join(table);
                let here = leave.of_list(start, &places);
                let list = file(&path, &self.config, self.memory)?;
                let written = list.write_kept(&here, &folder.join(table))?;
                kept.append(written);
            }
            // The pictures have come along, where they lie in the folder.
            Ok::<Kept, Error>(Kept { image_root: self.config.image_root.clone(), ..kept })
        })
    }
}

fn file_of(image: &ImageBytes) -> Option<PathBuf> {
    match image {
        ImageBytes::File(path) => Some(path.components().collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::ImageLimits;
    use crate::source::list_samples;

    fn read(files: &[(&str, &str)]) -> Listing {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let path = folder.path().display().to_string();
        list_samples(&SourceConfig { path, ..SourceConfig::default() }, ImageLimits::default()).unwrap()
    }

    #[test]
    fn rows_belong_to_the_pictures_beside_them() {
        let listing = read(&[
            (
                "metadata.jsonl",
                "{\"file_name\": \"a.jpg\", \"text\": \"A dog\"}\n{\"file_name\": \"deep/b.jpg\", \"text\": \"x\"}\n",
            ),
            ("a.jpg", "x"),
            ("deep/b.jpg", "x"),
            ("c.jpg", "x"),
        ]);
        let seen: Vec<_> =
            listing.samples.iter().map(|s| (s.id.as_str(), s.captions.len(), s.class.as_deref())).collect();
        assert_eq!(seen, [("a.jpg", 1, None), ("deep/b.jpg", 1, None)]);
        assert!(listing.skips.names("c.jpg") && listing.skips.total() == 1, "{}", listing.skips.to_jsonl());
    }

    #[test]
    fn each_split_may_have_its_own_metadata() {
        let listing = read(&[
            ("train/metadata.csv", "file_name,text\na.jpg,A dog\n,x\n"),
            ("test/metadata.csv", "file_name,label\na.jpg,dog\n"),
            ("train/a.jpg", "x"),
            ("test/a.jpg", "x"),
        ]);
        let seen: Vec<_> =
            listing.samples.iter().map(|s| (s.id.as_str(), s.split.as_deref(), s.class.as_deref())).collect();
        assert_eq!(seen, [("test/a.jpg", Some("test"), Some("dog")), ("train/a.jpg", Some("train"), None)]);
        assert!(listing.skips.names("train/row 2") && listing.skips.total() == 1, "{}", listing.skips.to_jsonl());
    }
}

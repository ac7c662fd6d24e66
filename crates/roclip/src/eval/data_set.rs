//! Labelled data that a recipe did not plan for: what lies beside it says its classes and templates, as CLIP_benchmark lays data out.

use crate::eval::EvalConfig;
use roclip_data::source::SourceConfig;
use std::path::{Path, PathBuf};

/// CLIP_benchmark's files at the root of a data set.
const CLASSES: &str = "classnames.txt";
const TEMPLATES: &str = "zeroshot_classification_templates.txt";
/// Folders that are a split of the data above them.
const SPLITS: [&str; 6] = ["train", "val", "valid", "validation", "test", "dev"];

impl EvalConfig {
    /// The same evaluation on other labelled images, by the classes and templates that lie there where they do. What else a recipe measures
    /// (captions as prompts, retrieval, a data set of the probe's own) belongs to the recipe's data and is left out.
    pub fn on(&self, path: &str) -> EvalConfig {
        let source = SourceConfig { path: path.to_owned(), ..SourceConfig::default() };
        let mut config = EvalConfig { source, classes: None, class_captions: None, retrieval: None, ..self.clone() };
        config.templates = beside(path, TEMPLATES).unwrap_or(config.templates);
        if let Some(probe) = &mut config.probe {
            probe.data = None;
        }
        config
    }

    /// The class list that is asked for, or that lies with the images.
    pub(crate) fn class_list(&self) -> Option<String> {
        self.classes.clone().or_else(|| beside(&self.source.path, CLASSES))
    }
}

/// A file at the root of the data at `path`, which may be the root or a split of it.
fn beside(path: &str, name: &str) -> Option<String> {
    let path = Path::new(path);
    let above = path.parent().filter(|_| is_split(path)).map(Path::to_owned);
    let roots: [Option<PathBuf>; 2] = [Some(path.to_owned()), above];
    let found = roots.into_iter().flatten().map(|root| root.join(name)).find(|file| file.is_file())?;
    Some(found.display().to_string())
}

fn is_split(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.is_dir() && SPLITS.contains(&name.to_lowercase().as_str())
}

/// What the data at `path` is called: the last part of the path, less a split.
pub fn data_set_name(path: &str) -> String {
    let one = |part: &str| {
        let path = Path::new(part);
        let path = path.parent().filter(|above| is_split(path) && above.file_name().is_some()).unwrap_or(path);
        path.file_name().map_or_else(|| part.to_owned(), |name| name.to_string_lossy().into_owned())
    };
    path.split("::").filter(|part| !part.is_empty()).map(one).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_called_by_its_folder_and_finds_what_lies_there() {
        let root = tempfile::tempdir().unwrap();
        let set = root.path().join("flowers");
        std::fs::create_dir_all(set.join("test")).unwrap();
        std::fs::write(set.join(CLASSES), "rose\ntulip\n").unwrap();
        std::fs::write(set.join(TEMPLATES), "a {c}\n").unwrap();
        for path in [set.clone(), set.join("test")] {
            let path = path.to_str().unwrap();
            let config = EvalConfig { templates: "emoji".into(), ..EvalConfig::default() }.on(path);
            assert_eq!(data_set_name(path), "flowers");
            assert!(config.templates.ends_with(TEMPLATES) && config.class_list().unwrap().ends_with(CLASSES));
            assert_eq!(config.source.split, None);
        }
        let plain = EvalConfig { templates: "emoji".into(), ..EvalConfig::default() }.on("elsewhere/pairs.csv");
        assert_eq!((plain.templates.as_str(), plain.class_list()), ("emoji", None));
        assert_eq!(data_set_name("a/pairs.csv::emoji"), "pairs.csv+emoji");
        assert_eq!(data_set_name("test"), "test");
    }
}

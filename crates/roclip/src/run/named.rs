//! What lies under the names of a recipe, beside pairs, labelled pictures and weights: a file may say something else tomorrow while the recipe
//! that names it stays.

use crate::checkpoint;
use crate::clean::CleanMethod;
use crate::error::{Error, Result};
use crate::eval::{CaptionEvaluator, Evaluator};
use crate::model::Clip;
use crate::recipe::Recipe;
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use roclip_data::source::SourceConfig;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Device;

/// The labelled pictures that a run is measured on, and the names that they are told apart by.
const PICTURES: &str = "eval.source";
const CLASSES: &str = "eval.classes";

/// Of what the file of a model says, in any layout and order. What is read of it is another structure in each version of the program.
fn described_digest(path: &Path) -> Result<String> {
    let mut described: Value = artifact::read_json(path)?;
    described.sort_all_objects();
    Ok(artifact::sha256_hex(described.to_string().as_bytes()))
}

/// Digests of what lies there, by what the recipe says, as in `eval.templates = "mine.txt"`: where the recipe says something else, it is
/// compared with nothing.
pub(super) fn named(
    recipe: &Recipe,
    evaluator: &Evaluator,
    references: Option<&CaptionEvaluator>,
    teacher: Option<&Clip>,
) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let described = Path::new(&recipe.model.name);
    if recipe.clean.is_none() && described.is_file() {
        found.insert(format!("model.name = {:?}", recipe.model.name), described_digest(described)?);
    }
    if !evaluator.is_of_nothing() {
        let eval = &recipe.eval;
        found.insert(source_key(PICTURES, &eval.source)?, evaluator.picture_digest());
        if let Some(classes) = eval.classes.as_ref().filter(|classes| Path::new(classes).is_file()) {
            found.insert(format!("{CLASSES} = {classes:?}"), digest(&evaluator.classes));
        }
        match &eval.class_captions {
            Some(source) => {
                let prompts: Vec<String> = evaluator.prompts.all().collect();
                found.insert(source_key("eval.class_captions", source)?, digest(&prompts));
            }
            None if Path::new(&eval.templates).is_file() => {
                found.insert(format!("eval.templates = {:?}", eval.templates), digest(&evaluator.templates.0));
            }
            None => {}
        }
    }
    let probed = recipe.eval.probe.as_ref().and_then(|probe| probe.data.as_ref());
    if let (Some(data), Some([train, test])) = (probed, evaluator.probe_digests()) {
        found.insert(source_key("eval.probe.data.train", &data.train)?, train);
        found.insert(source_key("eval.probe.data.test", &data.test)?, test);
    }
    // Of its weights the checkpoint knows already.
    if let (Some(distil), Some(teacher)) = (recipe.distillation(), teacher) {
        let key = format!("objective.distil.teacher = {:?}", distil.teacher);
        found.insert(key, checkpoint::configuration_digest(teacher)?);
    }
    let searched = recipe.clean.as_ref().filter(|clean| clean.method == CleanMethod::Abd);
    // A run that goes on has the patch that it was for, and does not need it any more: what cannot be read is compared with nothing. Where a
    // patch is searched, the search has refused it.
    let reference = searched.and_then(|clean| clean.abd.reference.as_ref());
    let read = reference.and_then(|path| Some((path, checkpoint::load(path, Device::Cpu).ok()?)));
    if let Some((reference, loaded)) = read {
        let model = format!("{}\n{}", loaded.origin.sha256, checkpoint::configuration_digest(&loaded.model)?);
        found.insert(format!("clean.abd.reference = {reference:?}"), artifact::sha256_hex(model.as_bytes()));
    }
    if let (Some(caption), Some(references)) = (&recipe.caption, references) {
        found.insert(source_key("caption.references", &caption.references)?, references.digest());
    }
    Ok(found)
}

/// Whether `key` of [`named`] is of the pictures and classes that a run is measured on, of which it has a digest as a whole.
pub(super) fn is_measured_on(key: &str) -> bool {
    is_of(key, PICTURES) || is_of(key, CLASSES)
}

fn is_of(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with(" = "))
}

/// What of a run that was measured on other labelled pictures, or on the same with other classes, than lie in the place `pictures` now, and what
/// exactly has changed since, as far as what the run `began` with says it.
pub(super) fn measured_apart(
    began: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    pictures: &str,
) -> String {
    let same = |section: &str| {
        let (key, digest) = began.iter().find(|(key, _)| is_of(key, section))?;
        Some((key, now.get(key)? == digest))
    };
    let same_pictures = same(PICTURES).map(|(_, same)| same);
    match (same(CLASSES), same_pictures) {
        (Some((classes, false)), same_pictures) => {
            let too = if same_pictures == Some(false) { ", and on other pictures" } else { "" };
            format!("measured with other classes{too}: `{}` has changed since", for_terminal(classes))
        }
        (_, Some(true)) => format!("measured on the pictures of `{pictures}` with other classes than they have now"),
        (_, Some(false)) => format!("measured on other pictures: those of `{pictures}` have changed since"),
        (_, None) => format!("measured on other pictures or classes: those of `{pictures}` have changed since"),
    }
}

fn digest(texts: &[String]) -> String {
    artifact::sha256_hex(texts.join("\n").as_bytes())
}

/// What a recipe says of a source, without what is usual.
fn source_key(key: &str, source: &SourceConfig) -> Result<String> {
    let fields = |source: &SourceConfig| match serde_json::to_value(source) {
        Ok(Value::Object(fields)) => Ok(fields),
        other => Err(Error::internal(format!("a source as JSON: {other:?}"))),
    };
    let usual = fields(&SourceConfig::default())?;
    let own = fields(source)?.into_iter().filter(|(name, value)| usual.get(name) != Some(value));
    Ok(format!("{key} = {}", Value::Object(own.collect::<Map<_, _>>())))
}

/// Whether what lies under the recipe's names `now` is what `folder` `began` with. Older files do not say.
///
/// # Errors
/// Names what has changed.
pub(super) fn check_named(
    began: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<()> {
    let changed = began.iter().find(|(key, digest)| now.get(*key).is_some_and(|found| found != *digest));
    match changed {
        None => Ok(()),
        Some((key, _)) => Err(Error::file(
            folder,
            format!("began with something else than lies there now: `{}` has changed since", for_terminal(key)),
            "bring it back as it was, or begin anew in another folder with --run",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_under_the_same_name_is_named_and_another_name_is_another_thing() {
        let source = |path: &str| SourceConfig { path: path.into(), ..SourceConfig::default() };
        let of = |path: &str, digest: &str| {
            BTreeMap::from([(source_key("caption.references", &source(path)).unwrap(), digest.to_owned())])
        };
        let began = of("a.csv", "1");
        let check = |now: &BTreeMap<String, String>| check_named(&began, now, Path::new("run"));
        check(&began).unwrap();
        check(&of("b.csv", "2")).unwrap();
        check(&BTreeMap::new()).unwrap();
        check_named(&BTreeMap::new(), &began, Path::new("run")).unwrap();
        let said = check(&of("a.csv", "2")).unwrap_err().to_string();
        assert!(said.contains("`run`") && said.contains(r#"`caption.references = {"path":"a.csv"}` has"#), "{said}");
        let split = SourceConfig { split: Some("test".into()), ..source("a.csv") };
        let key = source_key("caption.references", &split).unwrap();
        assert!(key.contains("split") && !began.contains_key(&key), "{key}");
    }

    #[test]
    fn the_file_of_a_model_is_what_it_says_however_it_is_laid_out() {
        let folder = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            let path = folder.path().join("model.json");
            std::fs::write(&path, text).unwrap();
            described_digest(&path).unwrap()
        };
        let first = of(r#"{"embed_dim": 16, "vision_cfg": {"width": 8, "layers": 2}}"#);
        assert_eq!(first, of("{\"vision_cfg\": {\"layers\": 2, \"width\": 8},\n  \"embed_dim\": 16}\n"));
        assert_ne!(first, of(r#"{"embed_dim": 24, "vision_cfg": {"width": 8, "layers": 2}}"#));
    }

    #[test]
    fn what_was_measured_is_other_pictures_or_other_classes() {
        let of = |entries: &[(&str, &str)]| -> BTreeMap<String, String> {
            entries.iter().map(|(key, digest)| ((*key).to_owned(), (*digest).to_owned())).collect()
        };
        let (pictures, classes) = ("eval.source = {\"path\":\"a\"}", "eval.classes = \"cls.txt\"");
        let began = of(&[(pictures, "1"), (classes, "1")]);
        let said = |now: &[(&str, &str)]| measured_apart(&began, &of(now), "a");
        let by_classes = said(&[(pictures, "1"), (classes, "2")]);
        assert!(by_classes.contains("with other classes: `eval.classes = \"cls.txt\"` has"), "{by_classes}");
        assert!(
            said(&[(pictures, "2"), (classes, "2")]).contains("other classes, and on other pictures: `eval.classes")
        );
        assert!(said(&[(pictures, "2"), (classes, "1")]).contains("on other pictures: those of `a`"));
        assert!(said(&[(pictures, "1")]).contains("the pictures of `a` with other classes"));
        assert!(measured_apart(&BTreeMap::new(), &began, "a").contains("other pictures or classes"));
        assert!(is_measured_on(pictures) && is_measured_on(classes) && !is_measured_on("eval.class_captions = {}"));
    }
}

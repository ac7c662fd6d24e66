//! Class prompts that are captions: what people wrote about images of the class, where no template sounds like the data.

use crate::error::{Error, Result};
use crate::eval::Classes;
use roclip_data::sample::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// The captions of `others` by class, in the order of `classes`. Images without a class say nothing.
///
/// # Errors
/// When a class has no caption, or when one of `others` is among the `evaluated` images: its caption would name it.
pub(super) fn class_captions(others: &[Sample], classes: &Classes, evaluated: &[Sample]) -> Result<Vec<Vec<String>>> {
    let asked: BTreeSet<(&str, &str)> = evaluated.iter().map(Sample::identity).collect();
    let mut by_class: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for sample in others.iter().filter(|sample| sample.class.is_some()) {
        if asked.contains(&sample.identity()) {
            return Err(Error::setting(
                format!("the image `{}` of eval.class_captions is among the evaluated ones", sample.id),
                "give another split",
            ));
        }
        by_class.entry(classes.of(sample)?).or_default().extend(sample.captions.iter().cloned());
    }
    let of_class = |class: &String| {
        by_class.remove(class.as_str()).filter(|captions| !captions.is_empty()).ok_or_else(|| {
            Error::setting(
                format!("eval.class_captions has no caption of the class `{class}`"),
                "give a split with an image of every class, or set eval.templates",
            )
        })
    };
    classes.names.iter().map(of_class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;
    use std::sync::Arc;

    fn sample(id: &str, class: Option<&str>, captions: &[&str]) -> Sample {
        Sample {
            captions: captions.iter().map(|c| (*c).to_owned()).collect(),
            class: class.map(str::to_owned),
            ..Sample::new("data".into(), id, ImageBytes::Memory(Arc::from(Vec::new())))
        }
    }

    #[test]
    fn captions_come_by_class_and_not_from_what_is_asked() {
        let evaluated = [sample("a", Some("dog"), &["never seen"]), sample("b", Some("cat"), &[])];
        let classes = Classes::of_images(&evaluated).unwrap();
        let dog = sample("c", Some("dog"), &["a dog runs", "it runs"]);
        let others = [dog.clone(), sample("d", Some("cat"), &["a cat"]), sample("e", None, &["no class"])];
        let prompts = class_captions(&others, &classes, &evaluated).unwrap();
        assert_eq!(prompts, [vec!["a cat"], vec!["a dog runs", "it runs"]]);
        let message = |others: &[Sample]| class_captions(others, &classes, &evaluated).unwrap_err().to_string();
        assert!(message(std::slice::from_ref(&dog)).contains("class `cat`"));
        assert!(message(&[dog, evaluated[1].clone()]).contains("image `b`"));
        assert!(message(&[sample("f", Some("bird"), &["a bird"])]).contains("class `bird`"));
    }
}

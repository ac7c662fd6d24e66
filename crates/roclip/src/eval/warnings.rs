//! What is wrong with an evaluation though it can be made: a person should read it before the numbers.

use crate::error::{Error, Result};
use roclip_data::artifact::sha256_hex;
use roclip_data::escape::for_terminal;
use roclip_data::picture::ImageLimits;
use roclip_data::poison::{Aim, Backdoor, Manifest, Side};
use roclip_data::sample::Sample;
use roclip_data::source::{BUILT_IN, SourceConfig};
use std::collections::{BTreeMap, BTreeSet};

/// Names shown of a list.
const SHOWN: usize = 3;

/// Class names that are codes (WordNet ids, numbers, `class_12`): a prompt of one says nothing.
pub(super) fn codes(classes: &[String]) -> Option<String> {
    let codes: Vec<&str> = classes.iter().map(String::as_str).filter(|name| is_code(name)).collect();
    if codes.is_empty() || codes.len() * 2 < classes.len() {
        return None;
    }
    let first: Vec<String> = codes.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let remedy = match codes.iter().any(|name| is_wnid(name)) {
        true => {
            "these are WordNet ids (wnids): set eval.classes = \"imagenet-1k\" for ImageNet's names, or eval.source.labels"
        }
        false => "set eval.classes to the list of names, in the order of the numbers, or eval.source.labels",
    };
    Some(format!(
        "{} of {} class names are codes or numbers ({}), and prompts like \"a photo of a {}\" mean nothing to a model; {remedy}",
        codes.len(),
        classes.len(),
        first.join(", "),
        codes.first().unwrap_or(&"")
    ))
}

/// `n` and the eight digits of a WordNet 3.0 noun.
fn is_wnid(name: &str) -> bool {
    name.strip_prefix('n').is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn is_code(name: &str) -> bool {
    let lower = name.to_lowercase();
    let rest =
        ["class", "label", "cls", "category", "id"].iter().find_map(|word| lower.strip_prefix(word)).unwrap_or(&lower);
    let digits = rest.trim_start_matches([' ', '_', '-', '#']);
    is_wnid(name) || (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// A model that is trained on own data and measured on the built-in pictures.
pub fn foreign(training: &SourceConfig, evaluation: &SourceConfig) -> Option<String> {
    let own = !training.has_built_in();
    (own && evaluation.path == BUILT_IN).then(|| {
        format!(
            "accuracy will be measured on the built-in emoji, not on data like `{}`; name labelled images with --val-data (eval.source)",
            training.path
        )
    })
}

/// A captioner that is trained on own data and measured by captions of the built-in pictures.
pub fn foreign_references(training: &SourceConfig, references: &SourceConfig) -> Option<String> {
    foreign(training, references)?;
    Some(format!(
        "captions are measured on the built-in emoji, not on data like `{}`; name pictures with captions with --val-data (caption.references)",
        training.path
    ))
}

/// Pictures that answers or captions are measured by, `references`, which are among those that are trained on.
pub fn trained_references(training: &[Sample], references: &[Sample], remedy: &str) -> Option<String> {
    if references.is_empty() {
        return None;
    }
    fn of(sample: &Sample) -> (&str, &str) {
        (&sample.source, &sample.key)
    }
    // The few are looked for among the many that are trained on, of which nothing else is kept.
    let measured: BTreeSet<_> = references.iter().map(of).collect();
    let trained: BTreeSet<_> = training.iter().map(of).filter(|place| measured.contains(place)).collect();
    let count = references.iter().filter(|sample| trained.contains(&of(sample))).count();
    (count > 0).then(|| {
        format!(
            "{count} of the {} pictures that captions are measured by are trained on, too: scores say how well they were learned by heart; {remedy}",
            references.len()
        )
    })
}

/// Most of the `classes` that are measured are of no picture that is trained on, where some are. Data whose classes have other names say nothing,
/// and neither do data of which most pictures have no class.
pub fn unseen(training: &[Sample], classes: &[String]) -> Option<String> {
    let labelled = training.iter().filter(|sample| sample.class.is_some()).count();
    if labelled * 2 < training.len() {
        return None;
    }
    let seen: BTreeSet<&str> = training.iter().filter_map(|sample| sample.class.as_deref()).collect();
    let unseen: Vec<&str> = classes.iter().map(String::as_str).filter(|class| !seen.contains(class)).collect();
    if unseen.len() == classes.len() || unseen.len() * 2 <= classes.len() {
        return None;
    }
    let first: Vec<String> = unseen.iter().take(SHOWN).map(|name| format!("`{}`", for_terminal(name))).collect();
    Some(format!(
        "no picture that is trained on is of {} of the {} classes that are measured ({}, ...): accuracy on them is about chance; \
         give data.source and eval.source the same classes (eval.source.emoji.concepts for the built-in pictures)",
        unseen.len(),
        classes.len(),
        first.join(", ")
    ))
}

/// Samples of several splits where none was chosen. `key` is the place of the source in the recipe.
pub fn splits(counts: &BTreeMap<String, usize>, source: &SourceConfig, key: &str) -> Option<String> {
    if source.split.is_some() || counts.len() < 2 {
        return None;
    }
    let usual: &[&str] = if key.starts_with("data") { &["train", "training"] } else { &["test", "val", "validation"] };
    let likely = usual.iter().copied().find(|split| counts.contains_key(*split));
    let choice = likely.or_else(|| counts.keys().next().map(String::as_str))?;
    let named: Vec<String> = counts.iter().take(SHOWN).map(|(split, count)| format!("`{split}` ({count})")).collect();
    Some(format!(
        "`{}` has the splits {}, and all of them are read; choose one with --set {key}.split={choice}",
        source.path,
        named.join(", ")
    ))
}

/// Labelled pictures that say themselves that they are poison.
pub(super) fn poisoned(samples: &[Sample]) -> Option<String> {
    let found = samples.iter().filter(|sample| sample.poison.is_some()).count();
    (found > 0).then(|| {
        format!(
            "{found} of the {} labelled pictures of the evaluation were written by `roclip poison make` as poison, and are measured as if \
             they were not; name clean ones with --val-data",
            samples.len()
        )
    })
}

/// # Errors
/// Another picture under a targeted image's id. One that cannot be read is counted when it is evaluated.
fn same_picture(sample: &Sample, aim: &Aim, limits: ImageLimits) -> Result<()> {
    let Ok(bytes) = sample.image.read(limits.max_file_bytes) else { return Ok(()) };
    if sha256_hex(&bytes) == aim.sha256 {
        return Ok(());
    }
    Err(Error::setting(
        format!(
            "the evaluation image `{}` is not the picture that attack `{}` aims at: its file differs from the manifest's",
            for_terminal(&sample.id),
            for_terminal(&aim.attack)
        ),
        "evaluate on the data that the manifest was made with",
    ))
}

/// Whether every targeted image among `samples` is the manifest's.
pub(super) fn check_pictures(
    samples: &[Sample],
    targeted: &BTreeMap<String, BTreeSet<Aim>>,
    limits: ImageLimits,
) -> Result<()> {
    let aimed = samples.iter().filter_map(|sample| Some((sample, targeted.get(&sample.id)?)));
    aimed
        .flat_map(|(sample, aims)| aims.iter().map(move |aim| (sample, aim)))
        .try_for_each(|(sample, aim)| same_picture(sample, aim, limits))
}

/// Labelled images left beside the targets, from which on rates say something.
const ENOUGH_LEFT: usize = 10;

/// What the attack leaves of the labelled images to measure by: its targets stand in no accuracy, and no trigger is laid on them.
///
/// # Errors
/// Nothing is left.
pub(super) fn left(
    samples: &[Sample],
    targeted: &BTreeMap<String, BTreeSet<Aim>>,
    backdoors: &[Backdoor],
) -> Result<Vec<String>> {
    let left: Vec<&Sample> = samples.iter().filter(|sample| !targeted.contains_key(&sample.id)).collect();
    let (all, aimed) = (samples.len(), samples.len() - left.len());
    let remedy = "give the attack fewer `targets` ([[poison.attacks]]), or name more labelled pictures with --val-data";
    let mut lines = Vec::new();
    if aimed > 0 && left.is_empty() {
        return Err(Error::setting(
            format!(
                "{aimed} of the {all} labelled pictures of the evaluation are targets of the attack: none is left to measure accuracy or a backdoor on"
            ),
            remedy,
        ));
    }
    if aimed > 0 && left.len() < ENOUGH_LEFT {
        lines.push(format!(
            "{aimed} of the {all} labelled pictures of the evaluation are targets of the attack, and {} left to measure accuracy and backdoors on, which says little; {remedy}",
            match left.len() {
                1 => "1 is".to_owned(),
                several => format!("{several} are"),
            }
        ));
    }
    let turnable = |backdoor: &Backdoor| left.iter().any(|sample| sample.class.as_deref() != Some(&backdoor.target));
    lines.extend(backdoors.iter().filter(|backdoor| !left.is_empty() && !turnable(backdoor)).map(|backdoor| {
        format!(
            "the success of `{}` cannot be measured: every labelled picture left is of its target `{}`; name pictures of other classes, too (--val-data)",
            for_terminal(&backdoor.attack),
            for_terminal(&backdoor.target)
        )
    }));
    Ok(lines)
}

/// Targeted images that are not evaluated: what is said of an attack's success is then about the others only, or about none.
///
/// # Errors
/// A targeted image's adversarial class that is not among `classes`, or another picture under its id.
pub(super) fn targets(
    samples: &[Sample],
    classes: &[String],
    targeted: &BTreeMap<String, BTreeSet<Aim>>,
    limits: ImageLimits,
) -> Result<Option<String>> {
    let found: Vec<(&Sample, &BTreeSet<Aim>)> =
        samples.iter().filter_map(|sample| Some((sample, targeted.get(&sample.id)?))).collect();
    for (sample, aim) in found.iter().flat_map(|(sample, aims)| aims.iter().map(move |aim| (sample, aim))) {
        if !classes.contains(&aim.target) {
            return Err(Error::setting(
                format!(
                    "the class `{}`, which attack `{}` wants of a targeted image, is not among the {} classes",
                    for_terminal(&aim.target),
                    for_terminal(&aim.attack),
                    classes.len()
                ),
                "add it to the class list (eval.classes): success cannot be measured without it",
            ));
        }
        same_picture(sample, aim, limits)?;
    }
    let evaluated: BTreeSet<&str> = found.iter().map(|(sample, _)| sample.id.as_str()).collect();
    let lacking = targeted.keys().find(|id| !evaluated.contains(id.as_str()));
    Ok(lacking.map(|first| {
        let success = match evaluated.len() {
            0 => "is not measured".to_owned(),
            some => format!("is measured on {some} images only"),
        };
        format!(
            "targeted poisoning (PSR) {success}: the evaluation data lacks {} of the manifest's {} targeted images (first: `{}`); evaluate on the data that the manifest was made with (--val-data)",
            targeted.len() - evaluated.len(),
            targeted.len(),
            for_terminal(first)
        )
    }))
}

/// The part of `manifest` whose success `samples` can show, and a line for each thing that they cannot.
pub(super) fn measurable(
    samples: &[Sample],
    classes: &[String],
    manifest: &Manifest,
    limits: ImageLimits,
) -> (Option<Manifest>, Vec<String>) {
    let mut lines = Vec::new();
    let absent: Vec<(String, String)> = (manifest.backdoors().into_iter())
        .filter(|backdoor| !classes.contains(&backdoor.target))
        .map(|backdoor| (backdoor.attack, backdoor.target))
        .collect();
    for (attack, target) in &absent {
        lines.push(format!(
            "attack success of `{}` is not measured: its target `{}` is not among the {} classes",
            for_terminal(attack),
            for_terminal(target),
            classes.len()
        ));
    }
    let targeted = manifest.targeted();
    let here = |id: &str| samples.iter().find(|sample| sample.id == id);
    let measured = |id: &str, aims: &BTreeSet<Aim>| {
        let of_class = aims.iter().all(|aim| classes.contains(&aim.target));
        let same = |sample: &Sample| aims.iter().all(|aim| same_picture(sample, aim, limits).is_ok());
        of_class && here(id).is_some_and(same)
    };
    let kept: BTreeSet<&String> = targeted.iter().filter(|(id, aims)| measured(id, aims)).map(|(id, _)| id).collect();
    let lacking: Vec<&String> = targeted.keys().filter(|id| !kept.contains(id)).collect();
    if let Some(first) = lacking.first() {
        let success = match kept.len() {
            0 => "is not measured".to_owned(),
            some => format!("is measured on {some} images only"),
        };
        lines.push(format!(
            "targeted poisoning (PSR) {success}: of the manifest's {} targeted images, {} are not these data's, or their targets are no classes of theirs (first: `{}`)",
            targeted.len(),
            lacking.len(),
            for_terminal(first)
        ));
    }
    let mut part = manifest.clone();
    part.rows.retain(|row| {
        let target_absent = row.trigger.is_some() && absent.iter().any(|(attack, _)| *attack == row.attack);
        let image_absent = row.side == Side::Evaluation && !kept.contains(&row.image);
        !target_absent && !image_absent
    });
    if part.backdoors().is_empty() && part.targeted().is_empty() && !lines.is_empty() {
        let line = format!("nothing of the poisoning can be measured on these images: {}", lines.join("; "));
        return (None, vec![line]);
    }
    (Some(part), lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;

    #[test]
    fn classes_that_training_does_not_have_are_said_where_it_has_others() {
        let of = |class: &str| Sample {
            class: Some(class.to_owned()),
            ..Sample::new("data".into(), class, ImageBytes::Memory((*b"bytes").into()))
        };
        let classes = ["cat", "dog", "cow", "hen"].map(str::to_owned);
        let said = unseen(&[of("cat")], &classes).unwrap();
        assert!(said.contains("3 of the 4 classes") && said.contains("`dog`"), "{said}");
        assert_eq!(unseen(&[of("cat"), of("dog")], &classes), None);
        assert_eq!(unseen(&[of("n02121808")], &classes), None, "other names");
        assert_eq!(unseen(&[], &classes), None);
        let bare = |key: &str| Sample { class: None, ..of(key) };
        assert_eq!(unseen(&[of("cat"), bare("a"), bare("b")], &classes), None, "most have none");
        assert!(unseen(&[of("cat"), bare("a")], &classes).is_some());
    }

    #[test]
    fn targeted_images_that_cannot_be_measured_are_said() {
        let sample = |id: &str| Sample::new("data".into(), id, ImageBytes::Memory((*b"bytes").into()));
        let aim = |target: &str, bytes: &[u8]| {
            BTreeSet::from([Aim { attack: "t".into(), target: target.into(), sha256: sha256_hex(bytes) }])
        };
        let check = |samples: &[Sample], aims: &[(&str, BTreeSet<Aim>)]| {
            let aims = aims.iter().map(|(id, aims)| ((*id).to_owned(), aims.clone())).collect();
            targets(samples, &["red".to_owned()], &aims, ImageLimits::default())
        };
        let (a, b) = (("a", aim("red", b"bytes")), ("b", aim("red", b"bytes")));
        assert_eq!(check(&[sample("a"), sample("b")], &[a.clone(), b.clone()]).unwrap(), None);
        let some = check(&[sample("a")], &[a.clone(), b.clone()]).unwrap().unwrap();
        assert!(some.contains("measured on 1 images only") && some.contains("first: `b`"), "{some}");
        assert!(check(&[sample("c")], &[a, b]).unwrap().unwrap().contains("is not measured"));
        assert_eq!(check(&[sample("c")], &[]).unwrap(), None);
        let gone = check(&[sample("a")], &[("a", aim("blue", b"bytes"))]).unwrap_err().to_string();
        assert!(gone.contains("`blue`") && gone.contains("attack `t`"), "{gone}");
        // An absent image's class does not matter.
        assert!(check(&[sample("c")], &[("a", aim("blue", b"bytes"))]).is_ok());
        let other = check(&[sample("a")], &[("a", aim("red", b"others"))]).unwrap_err().to_string();
        assert!(other.contains("not the picture"), "{other}");
    }

    #[test]
    fn labelled_pictures_that_are_poison_are_said() {
        let plain = Sample::new("data".into(), "a", ImageBytes::Memory((*b"bytes").into()));
        let mark = roclip_data::pairs::PoisonMark { attack: "patch".into(), target: "cat".into() };
        let poison = Sample { poison: Some(Box::new(mark)), ..plain.clone() };
        assert!(poisoned(&[plain.clone(), poison]).unwrap().starts_with("1 of the 2 labelled pictures"));
        assert_eq!(poisoned(&[plain]), None);
    }

    fn of(names: &[&str]) -> Option<String> {
        codes(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn codes_are_told_from_names() {
        assert!(of(&["n01440764", "n01443537"]).unwrap().contains("imagenet-1k"));
        for names in [["0", "1"], ["007", "12"], ["class_1", "class_2"], ["label 3", "Label 4"], ["cls-1", "ID7"]] {
            assert!(of(&names).unwrap().contains("in the order of the numbers"), "{names:?}");
        }
        assert!(of(&["cat", "dog", "7"]).is_none(), "one number among names may be a name");
        assert!(of(&["n0144", "night", "class", "boeing 747", "id card"]).is_none());
    }

    #[test]
    fn own_data_measured_on_emoji_is_said() {
        let source = |path: &str| SourceConfig { path: path.into(), ..SourceConfig::default() };
        assert!(foreign(&source("mine.csv"), &source("emoji")).unwrap().contains("built-in emoji"));
        assert!(foreign(&source("emoji"), &source("emoji")).is_none());
        assert!(foreign(&source("emoji::mine.csv"), &source("emoji")).is_none());
        assert!(foreign(&source("mine.csv"), &source("test.csv")).is_none());
        let said = foreign_references(&source("mine.csv"), &source("emoji")).unwrap();
        assert!(said.contains("captions are measured on the built-in emoji") && said.contains("caption.references"));
        assert!(foreign_references(&source("mine.csv"), &source("test.csv")).is_none());
    }

    #[test]
    fn references_that_are_trained_on_are_said() {
        let of = |data: &str, key: &str| Sample::new(data.into(), key, ImageBytes::Memory((*b"bytes").into()));
        let training = [of("data", "a"), of("data", "b")];
        let said = trained_references(&training, &[of("data", "b"), of("data", "c")], "name others").unwrap();
        assert!(said.contains("1 of the 2 pictures") && said.ends_with("name others"), "{said}");
        assert_eq!(trained_references(&training, &[of("data", "c"), of("other", "a")], ""), None);
        assert_eq!(trained_references(&training, &[], ""), None);
        // A picture that is trained on twice is one.
        let twice = [of("data", "a"), of("data", "a")];
        let said = trained_references(&twice, &[of("data", "a"), of("data", "c")], "").unwrap();
        assert!(said.contains("1 of the 2 pictures"), "{said}");
    }
}

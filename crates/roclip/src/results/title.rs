//! What a run is called, and what part it plays in a comparison.

use crate::recipe::{ObjectiveName, Recipe};
use crate::run::{Looked, Summary};
use std::path::Path;

/// A student, by what is known of its teacher.
pub(super) fn student(teacher: Option<&Recipe>, summary: &Summary) -> String {
    let Some(recipe) = teacher else { return ObjectiveName::Distil.title().to_owned() };
    let what = match recipe.objective.name {
        ObjectiveName::Classifier => "teacher".to_owned(),
        other => format!("{} teacher", other.title()),
    };
    if recipe.is_unattacked() {
        return format!("Student of a clean {what}");
    }
    // Of a poison that was given as a manifest the recipe says no names.
    let named: Vec<&str> = recipe.poison.attacks.iter().map(|attack| attack.name.as_str()).collect();
    let measured = summary.teacher.iter().flat_map(|teacher| teacher.asr.keys().map(String::as_str));
    let attacks = if named.is_empty() { measured.collect() } else { named };
    match attacks.is_empty() {
        true => format!("Student of a {what}"),
        false => format!("Student of a {what} with {}", attacks.join(" and ")),
    }
}

/// Pairs that are left out of what is trained on, where that is a defence. A list of other kinds (copies, say) is none.
pub(super) enum LeftOut {
    /// Those that a look at all pairs found suspicious.
    Suspects(Looked),
    /// Poison among others, by a list of the user's own, of this name.
    Poison(String),
}

impl LeftOut {
    /// What a run by `recipe` left out.
    pub fn by(recipe: &Recipe, summary: &Summary) -> Option<LeftOut> {
        let list = recipe.data.drop.as_deref()?;
        match Looked::beside(list) {
            Some(looked) => Some(LeftOut::Suspects(looked)),
            None => takes_poison(recipe, summary).then(|| LeftOut::Poison(name_of(list))),
        }
    }

    /// What stands behind the name of the row.
    fn words(&self) -> String {
        match self {
            LeftOut::Suspects(looked) => format!(", suspects dropped ({})", looked.ordered_by()),
            LeftOut::Poison(list) => format!(", pairs left out ({list})"),
        }
    }
}

/// Whether the list of a run that learns from poisoned pairs took some of them. Older runs do not say so: of these it did where poison was asked
/// for and none is there.
fn takes_poison(recipe: &Recipe, summary: &Summary) -> bool {
    let elsewhere = recipe.clean.is_some() || recipe.prompt.is_some() || recipe.distillation().is_some();
    let asked = recipe.manifest.is_some() || !recipe.poison.attacks.is_empty();
    let took = match summary.poison_left_out {
        Some(taken) => taken > 0,
        None => asked && summary.poisoned_pairs == 0,
    };
    took && !elsewhere && !recipe.poison.measure_only
}

fn name_of(list: &Path) -> String {
    list.file_name().unwrap_or(list.as_os_str()).to_string_lossy().into_owned()
}

/// What was trained, in words; of a student with what its `teacher` was, and with what was `left_out`.
pub(super) fn name(
    recipe: &Recipe,
    control: Option<&str>,
    poisoned: bool,
    taught: Option<String>,
    left_out: Option<&LeftOut>,
) -> String {
    if let Some(prompt) = &recipe.prompt {
        return prompt.method().title().to_owned();
    }
    let objective = recipe.objective.name;
    let name = match (&recipe.clean, control) {
        (None, None) if taught.is_some() => taught.unwrap_or_default(),
        (Some(clean), _) => clean.method.method().title().to_owned(),
        (None, _) if recipe.caption.is_some() => "captioner".to_owned(),
        (None, Some("undefended")) if objective.labelled() => "Classifier, undefended".into(),
        (None, Some("clean-data")) if objective.labelled() => "Classifier on clean data".into(),
        (None, None) if recipe.model.standardise && objective == ObjectiveName::Classifier => {
            "Classifier of standardised pictures".into()
        }
        (None, Some("undefended")) => "CLIP, undefended".into(),
        (None, Some("augmentation-only")) => "CLIP, augmentation only".into(),
        (None, Some("clean-data")) => "CLIP on clean data".into(),
        // Whose poison is left out was attacked.
        (None, _) if objective.defends() && !poisoned && left_out.is_none() => {
            format!("{} on clean data", objective.title())
        }
        (None, _) => objective.title().to_owned(),
    };
    let dropped = left_out.map(LeftOut::words).unwrap_or_default();
    let limit = recipe.data.pairs_per_picture.map(|limit| format!(", pairs a picture: {limit}")).unwrap_or_default();
    format!("{name}{dropped}{limit}")
}

/// What part a run plays in a comparison, read off its recipe and what was `left_out`.
pub(super) fn control(recipe: &Recipe, poisoned: bool, left_out: Option<&LeftOut>) -> Option<String> {
    let augmented = recipe.augment.image.is_some() || recipe.augment.text.is_some();
    if recipe.clean.is_some() || recipe.caption.is_some() || left_out.is_some() {
        return None;
    }
    if let Some(prompt) = &recipe.prompt {
        let part = if prompt.method().attacks() { "undefended" } else { "clean-data" };
        return prompt.repair.is_none().then(|| part.to_owned());
    }
    match (recipe.objective.name, poisoned, augmented) {
        (name, _, _) if name.defends() => None,
        (ObjectiveName::Distil, ..) => None,
        // Standardised pictures are a defence; usual augmentation of a classifier's is none.
        (ObjectiveName::Classifier, true, _) => (!recipe.model.standardise).then(|| "undefended".into()),
        (_, false, _) => Some("clean-data".into()),
        (_, true, false) => Some("undefended".into()),
        (_, true, true) => Some("augmentation-only".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_the_poison_that_a_list_took_is_a_defence_by_the_name_of_the_list() {
        let summary = |poisoned: usize, taken: Option<usize>| -> Summary {
            let evaluation = crate::eval::Evaluation::of_nothing();
            let mut fields = serde_json::json!({
                "objective": "clip", "seed": 0, "epoch": 1, "phase": "clip", "pairs": 8, "poisoned_pairs": poisoned,
                "evaluation": evaluation, "after": {}, "linear_probe": null, "seconds": 0.0, "peak_memory_bytes": 0,
            });
            if let Some(taken) = taken {
                fields["poison_left_out"] = taken.into();
            }
            serde_json::from_value(fields).unwrap()
        };
        let called = |assignments: &[&str], poisoned: usize, taken: Option<usize>| {
            let attack = "poison.attacks=[{name='b',target='x',badnets={},count=3}]";
            let recipe = Recipe::default().assign(attack).unwrap();
            let recipe = assignments.iter().fold(recipe, |recipe, set| recipe.assign(set).unwrap());
            let left_out = LeftOut::by(&recipe, &summary(poisoned, taken));
            let part = control(&recipe, poisoned > 0, left_out.as_ref());
            (name(&recipe, part.as_deref(), poisoned > 0, None, left_out.as_ref()), part)
        };
        let list = "data.drop='lists/both.txt'";
        let defence = |name: &str| (format!("{name}, pairs left out (both.txt)"), None);
        let control = |name: &str, part: &str| (name.to_owned(), Some(part.to_owned()));
        assert_eq!(called(&[list], 0, Some(3)), defence("CLIP"));
        assert_eq!(called(&[list], 1, Some(2)), defence("CLIP"), "poison that stays makes it no undefended one");
        assert_eq!(called(&[list], 0, None), defence("CLIP"), "an older run");
        assert_eq!(called(&[list, "objective.name='roclip'"], 0, Some(3)), defence("RoCLIP"));
        // Copies, say.
        assert_eq!(called(&[list], 3, Some(0)), control("CLIP, undefended", "undefended"));
        assert_eq!(called(&[list], 3, None), control("CLIP, undefended", "undefended"));
        let clean = [list, "poison.measure_only=true"];
        assert_eq!(called(&clean, 0, Some(0)), control("CLIP on clean data", "clean-data"));
        assert_eq!(called(&clean, 0, None), control("CLIP on clean data", "clean-data"));
        assert_eq!(called(&[], 0, None), control("CLIP on clean data", "clean-data"), "nothing was planted");
    }
}

//! What a run is called, and what part it plays in a comparison.

use crate::recipe::{ObjectiveName, Recipe};
use crate::run::{Looked, Summary};

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

/// What was trained, in words; of a student with what its `teacher` was.
pub(super) fn name(recipe: &Recipe, control: Option<&str>, poisoned: bool, taught: Option<String>) -> String {
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
        (None, _) if objective.defends() && !poisoned => format!("{} on clean data", objective.title()),
        (None, _) => objective.title().to_owned(),
    };
    let dropped =
        looked(recipe).map(|looked| format!(", suspects dropped ({})", looked.ordered_by())).unwrap_or_default();
    let limit = recipe.data.pairs_per_picture.map(|limit| format!(", pairs a picture: {limit}")).unwrap_or_default();
    format!("{name}{dropped}{limit}")
}

/// The look at all pairs that found those suspicious which are left out: a defence, while a list of other kinds (copies, say) is none.
fn looked(recipe: &Recipe) -> Option<Looked> {
    recipe.data.drop.as_deref().and_then(Looked::beside)
}

/// What part a run plays in a comparison, read off its recipe.
pub(super) fn control(recipe: &Recipe, poisoned: bool) -> Option<String> {
    let augmented = recipe.augment.image.is_some() || recipe.augment.text.is_some();
    if recipe.clean.is_some() || recipe.caption.is_some() || looked(recipe).is_some() {
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

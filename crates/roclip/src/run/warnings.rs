//! What a recipe and its data show before the first step to be in vain: a person should read it before the hours, not after them.

use crate::clean::CleanMethod;
use crate::objective::RoClipConfig;
use crate::recipe::{ObjectiveName, Recipe};
use roclip_data::plural::count;

/// RoCLIP that matches in less than this share of the epochs that its period gives is nearly plain CLIP.
const FEW_MATCHING_EPOCHS: f64 = 0.25;

/// Warnings about a recipe over `pairs` pairs, of which `poisoned` are poison, without looking at them. A list has taken `poison_left_out`
/// poisoned pairs before.
pub fn warnings(recipe: &Recipe, pairs: usize, poisoned: usize, poison_left_out: usize) -> Vec<String> {
    let mut found = Vec::new();
    let clean = recipe.clean.as_ref();
    // These two have schedules of their own.
    let scheduled = match clean {
        Some(clean) => clean.method != CleanMethod::Par,
        None => recipe.objective.name != ObjectiveName::Safeclip,
    };
    let steps = ((pairs / recipe.train.batch_size.max(1)) as u64).saturating_mul(recipe.train.epochs);
    let warmup = recipe.train.warmup(steps);
    if scheduled && steps > 0 && recipe.train.warmup_never_ends(steps) {
        found.push(format!(
            "the warm-up of {warmup} steps never ends: the run has {steps}, and reaches {:.1} % of the peak learning rate; lower --warmup (train.warmup_steps), or give it as a share, as in --warmup 10%",
            100.0 * steps as f64 / warmup.max(1) as f64
        ));
    } else if scheduled && steps > 0 && warmup.saturating_mul(2) > steps {
        found.push(format!(
            "the warm-up of {warmup} steps takes more than half of the run's {steps}; lower --warmup (train.warmup_steps)"
        ));
    }
    let asked = recipe.manifest.is_some() || !recipe.poison.attacks.is_empty();
    let trusted = clean.is_some() || recipe.distillation().is_some();
    if asked && poisoned == 0 && poison_left_out == 0 && !trusted && !recipe.poison.measure_only {
        found.push(
            "poison was asked for, and none of the pairs is poisoned: the model will look defended because it was never attacked; look at [[poison.attacks]] and the manifest".to_owned(),
        );
    }
    if recipe.is_labelled() && recipe.data.source == recipe.eval.source {
        found.push(format!(
            "the pictures that accuracy is measured on are those that are trained on (`{}`): it says how well they were learned by heart; name others with --val-data",
            recipe.eval.source.path
        ));
    }
    if let Some(references) = recipe.caption.as_ref().map(|caption| &caption.references) {
        let (own, theirs) = (&recipe.data.source, &references.emoji);
        let built_in = own.path == "emoji" && references.path == "emoji";
        if built_in && theirs.clone().with_concepts_of(&own.emoji) != *theirs {
            found.push(
                "captions are measured on other built-in concepts than those that are trained on, and of what was never seen nothing can be said: \
                 set the keys of caption.references.emoji as those of data.source.emoji".to_owned(),
            );
        }
    }
    if let Some((what, remedy)) = never_matches(recipe) {
        found.push(format!("{what}; {remedy}"));
    }
    found.extend(seldom_matches(recipe));
    if clean.is_none() && recipe.objective.name == ObjectiveName::Roclip && recipe.augment.image.is_none() {
        found.push(
            "RoCLIP without augmentation of pictures keeps next to nothing out: the augmentation does most of its work; give the recipe an [augment.image] section, or begin with --preset roclip".to_owned(),
        );
    }
    found
}

/// Of a recipe that ends soon after RoCLIP's first matching epoch, as one does whose epochs were made fewer: what is wrong, and what to do.
fn seldom_matches(recipe: &Recipe) -> Option<String> {
    let (roclip, epochs) = (&recipe.objective.roclip, recipe.train.epochs);
    let (first_match, matching) = (roclip.first_match(), roclip.matching_epochs(epochs));
    // One that never matches is told so by itself.
    if recipe.clean.is_some() || recipe.objective.name != ObjectiveName::Roclip || matching == 0 {
        return None;
    }
    let period = roclip.period.max(1);
    let usual = epochs as f64 / period as f64;
    (matching as f64 / usual < FEW_MATCHING_EPOCHS).then(|| {
        format!(
            "RoCLIP matches in {} of {epochs} only, where its period of {period} gives {usual:.0}: its first matching epoch is {first_match}, and the others train plain CLIP; \
             lower objective.roclip.match_start (--match-start), as to {}, behind a third of the epochs, or raise train.epochs (--epochs)",
            count(matching, "epoch"),
            RoClipConfig::start_behind_a_third(epochs)
        )
    })
}

/// Of a recipe that ends before RoCLIP's first matching epoch: what is wrong, and what to do.
pub fn never_matches(recipe: &Recipe) -> Option<(String, &'static str)> {
    let (roclip, epochs) = (&recipe.objective.roclip, recipe.train.epochs);
    let first_match = roclip.first_match();
    let matches = recipe.clean.is_some() || recipe.objective.name != ObjectiveName::Roclip || first_match <= epochs;
    (!matches).then(|| {
        (
            format!("RoCLIP defends nothing here: its first matching epoch is {first_match}, and the run ends with epoch {epochs}"),
            "lower objective.roclip.match_start or objective.roclip.period (--match-start, --match-period), or raise train.epochs (--epochs)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_other_concepts_are_told_before_the_run() {
        let mut recipe = Recipe { caption: Some(Default::default()), ..Recipe::default() };
        assert!(warnings(&recipe, 5120, 0, 0).is_empty());
        recipe.data.source.emoji.captions = 1;
        assert!(warnings(&recipe, 5120, 0, 0).is_empty(), "the same concepts");
        recipe.data.source.emoji.concepts = 12;
        assert!(warnings(&recipe, 5120, 0, 0).join("").contains("caption.references.emoji"));
        recipe.data.source.path = "pairs.csv".into();
        assert!(warnings(&recipe, 5120, 0, 0).is_empty());
    }

    #[test]
    fn a_warm_up_that_does_not_fit_is_told_before_the_run() {
        let said = |assignments: &[&str]| -> String {
            let recipe = assignments.iter().fold(Recipe::default(), |recipe, one| recipe.assign(one).unwrap());
            warnings(&recipe, 5120, 0, 0).join("\n")
        };
        assert_eq!(said(&[]), "", "the default is a share of the steps");
        // 10 steps an epoch, 32 epochs.
        let released = ["train.warmup_steps=10000"];
        assert!(said(&released).contains("never ends") && said(&released).contains("3.2 %"));
        assert!(said(&["train.warmup_steps=200"]).contains("more than half"));
        assert_eq!(said(&["train.warmup_steps=100"]), "");
        assert_eq!(said(&["objective.name=safeclip", "train.warmup_steps=10000"]), "");
        assert_eq!(said(&["clean={}", "clean.method=par", "train.warmup_steps=10000"]), "");
        let bare = ["objective.name=roclip"];
        assert!(
            said(&bare).contains("augmentation")
                && !said(&["objective.name=roclip", "augment.image={}"]).contains("augmentation")
        );
        let attacked = ["poison.attacks=[{name='a',target='b',badnets={},rate=0.1}]"];
        assert!(said(&attacked).contains("never attacked"));
        let recipe = Recipe::default().assign(attacked[0]).unwrap();
        assert!(warnings(&recipe, 5120, 0, 63).is_empty(), "a list took the poison");
        assert_eq!(said(&[attacked[0], "poison.measure_only=true"]), "");
        let late = ["objective.name=roclip", "objective.roclip.match_start=33", "train.warmup_steps=1"];
        assert!(said(&late).contains("defends nothing") && said(&late).contains("33"));
    }

    #[test]
    fn roclip_that_hardly_matches_is_told_before_the_run() {
        let said = |assignments: &[&str]| -> String {
            let defended = ["objective.name=roclip", "augment.image={}"];
            let all = defended.iter().chain(assignments);
            let recipe = all.fold(Recipe::default(), |recipe, one| recipe.assign(one).unwrap());
            warnings(&recipe, 5120, 0, 0).join("\n")
        };
        // A recipe for 64 epochs that is trained for 24.
        let late = ["objective.roclip.match_start=23", "train.epochs=24"];
        let words = ["1 epoch of 24", "period of 2 gives 12", "objective.roclip.match_start (--match-start), as to 9,"];
        for word in words {
            assert!(said(&late).contains(word), "{word}: {}", said(&late));
        }
        assert_eq!(said(&[late[0], "train.epochs=64"]), "");
        assert_eq!(said(&["objective.roclip.match_start=9", "train.epochs=24"]), "");
        assert_eq!(said(&["objective.roclip.match_start=19", "train.epochs=24"]), "", "a quarter of them");
        assert_eq!(said(&["train.epochs=2"]), "");
        assert_eq!(said(&["objective.name=clip", late[0], late[1]]), "");
    }
}

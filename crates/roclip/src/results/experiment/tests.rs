//! Which runs are one experiment.

use super::*;
use crate::recipe::ObjectiveName;

pub(in crate::results) fn experiment(change: impl Fn(&mut Recipe)) -> Experiment {
    let mut recipe = Recipe::default();
    change(&mut recipe);
    Experiment::of(&recipe).unwrap()
}

#[test]
fn seeds_manifests_and_machines_are_one_experiment_and_settings_are_not() {
    let first = experiment(|_| {});
    let same = experiment(|recipe| {
        (recipe.seed, recipe.train.threads, recipe.data.workers) = (7, 3, 9);
        recipe.data.index = "always".into();
        recipe.manifest = Some("elsewhere.jsonl".into());
    });
    assert_eq!(first.digest(), same.digest());
    for other in [
        experiment(|recipe| recipe.objective.name = ObjectiveName::Roclip),
        experiment(|recipe| recipe.augment.text = Some(Default::default())),
        experiment(|recipe| (recipe.manifest, recipe.poison.measure_only) = (Some("m.jsonl".into()), true)),
        experiment(|recipe| recipe.clean = Some(Default::default())),
    ] {
        assert_ne!(first.digest(), other.digest());
    }
}

#[test]
fn suspects_that_were_found_in_one_way_are_one_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let list = |seed: u64, methods: &str| {
        let own = folder.path().join(format!("{methods}-{seed}"));
        std::fs::create_dir(&own).unwrap();
        let looked = format!(
            r#"{{"looked": {{"model": null, "methods": ["{methods}"], "neighbours": 16, "references": 1024, "drop": "fraction 0.05"}}, "pairs": {seed}}}"#
        );
        std::fs::write(own.join("detect.json"), looked).unwrap();
        own.join("drop.txt")
    };
    let without = |list: &Path| experiment(|recipe| recipe.data.drop = Some(list.to_owned()));
    let first = without(&list(0, "dao"));
    assert_eq!(first.digest(), without(&list(1, "dao")).digest());
    assert_ne!(first.digest(), without(&list(0, "lid")).digest());
    assert_eq!(first.settings["detected by"], "dao");
    // Which list they were found behind makes another one.
    let look = |method: &str, drop: &str| {
        serde_json::json!({
            "model": null, "methods": [method], "neighbours": 16, "references": 1024, "drop": drop
        })
    };
    let behind = |earlier: serde_json::Value| {
        let own = folder.path().join(artifact::sha256_hex(earlier.to_string().as_bytes()));
        std::fs::create_dir(&own).unwrap();
        let mut looked = look("dao", "fraction 0.05");
        looked["earlier"] = earlier;
        std::fs::write(own.join("detect.json"), serde_json::json!({"looked": looked}).to_string()).unwrap();
        without(&own.join("drop.txt"))
    };
    let found = ["0a", "0b"].map(|digest| behind(digest.into()).digest());
    let looks = ["fraction 0.1", "fraction 0.2"].map(|drop| behind(look("lid", drop)).digest());
    let all: BTreeSet<&String> = found.iter().chain(&looks).collect();
    assert!(all.len() == 4 && !all.contains(&first.digest()), "{all:?}");
    // Of a list that somebody else made, nothing is known but its name.
    let other = folder.path().join("ids.txt");
    assert_eq!(without(&other).settings["data.drop"], other.display().to_string());
    assert_ne!(without(&other).digest(), without(&folder.path().join("more.txt")).digest());
}

#[test]
fn settings_of_an_objective_that_does_not_train_make_no_other_experiment() {
    let with = |name, period| {
        experiment(move |recipe| (recipe.objective.name, recipe.objective.roclip.period) = (name, period)).digest()
    };
    assert_eq!(with(ObjectiveName::Clip, 2), with(ObjectiveName::Clip, 5));
    assert_eq!(with(ObjectiveName::Safeclip, 2), with(ObjectiveName::Safeclip, 5));
    assert_ne!(with(ObjectiveName::Roclip, 2), with(ObjectiveName::Roclip, 5));
}

#[test]
fn controls_are_of_the_same_attack_and_tables_of_the_same_pictures() {
    let plain = experiment(|_| {});
    let defended = experiment(|recipe| recipe.objective.name = ObjectiveName::Roclip);
    let elsewhere = experiment(|recipe| recipe.eval.source.path = "photos".into());
    let measured = |experiment: &Experiment| experiment.measured_digest(None);
    assert_eq!((measured(&plain), plain.attack_digest()), (measured(&defended), defended.attack_digest()));
    assert_ne!(measured(&plain), measured(&elsewhere));
    assert_eq!(elsewhere.data_apart_from(&[&plain, &elsewhere]), ["eval.source.path = photos"]);
    // The same pictures are the same wherever they lie.
    let [one, other] = [&plain, &elsewhere].map(|experiment| experiment.measured_digest(Some("pictures")));
    assert!(one == other && one != plain.measured_digest(Some("others")));
    let trained_elsewhere = experiment(|recipe| recipe.data.source.path = "photos".into());
    assert_eq!(measured(&plain), measured(&trained_elsewhere));
    assert_ne!(plain.training_digest(), trained_elsewhere.training_digest());
    assert_ne!(plain.attack_digest(), trained_elsewhere.attack_digest());
    let spelled = |path: &'static str, split: Option<&'static str>| {
        measured(&experiment(move |recipe| {
            (recipe.eval.source.path, recipe.eval.source.split) = (path.into(), split.map(str::to_owned));
        }))
    };
    let trained_at = |path: &'static str, split: Option<&'static str>| {
        let place = move |recipe: &mut Recipe| {
            (recipe.data.source.path, recipe.data.source.split) = (path.into(), split.map(str::to_owned));
        };
        (experiment(place).training_digest(), experiment(place).attack_digest())
    };
    assert_eq!(spelled("cifar10/test", None), spelled("cifar10", Some("test")));
    assert_eq!(trained_at("cifar10/train", None), trained_at("cifar10", Some("train")));
    assert_ne!(spelled("cifar10/test", None), spelled("cifar10", Some("val")));
}

#[test]
fn captioners_without_labelled_pictures_are_measured_on_their_references() {
    let captioner = |labelled: &'static str, path: &'static str, split: Option<&'static str>| {
        experiment(move |recipe| {
            let references = &mut recipe.caption.get_or_insert_default().references;
            (references.path, references.split) = (path.into(), split.map(str::to_owned));
            recipe.eval.source.path = labelled.into();
        })
    };
    let measured = |experiment: &Experiment| experiment.measured_digest(None);
    let [photos, drawings] = ["photos", "drawings"].map(|path| captioner(NO_IMAGES, path, None));
    assert_ne!(measured(&photos), measured(&drawings));
    assert_eq!(photos.data_apart_from(&[&photos, &drawings]), ["caption.references.path = photos"]);
    assert_eq!(
        measured(&captioner(NO_IMAGES, "coco/test", None)),
        measured(&captioner(NO_IMAGES, "coco", Some("test")))
    );
    // Labelled pictures are what the rates of a table are of.
    assert_eq!(measured(&captioner("labelled", "photos", None)), measured(&captioner("labelled", "drawings", None)));
}

#[test]
fn settings_of_the_built_in_pictures_tell_nothing_of_other_data() {
    let list = |concepts| {
        experiment(move |recipe| {
            let source = &mut recipe.data.source;
            (source.path, source.emoji.concepts) = ("pairs.csv".into(), concepts);
            source.split = Some("val".into());
        })
    };
    let built_in = |path: &'static str, concepts| {
        experiment(move |recipe| {
            (recipe.data.source.path, recipe.data.source.emoji.concepts) = (path.into(), concepts);
        })
    };
    assert_eq!(list(64).digest(), list(200).digest());
    assert_ne!(built_in("emoji", 64).digest(), built_in("emoji", 200).digest());
    assert_ne!(built_in("pairs.csv::emoji", 64).digest(), built_in("pairs.csv::emoji", 200).digest());
    assert_eq!(list(64).training_digest(), list(200).training_digest());
}

#[test]
fn what_a_run_does_not_read_makes_no_other_run_and_everything_else_does() {
    let exactly = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = Recipe::default();
        change(&mut recipe);
        Experiment::exactly(&recipe).unwrap().digest()
    };
    let plain = exactly(&|_| {});
    assert_eq!(plain, exactly(&|recipe| recipe.objective.roclip.period = 7));
    assert_eq!(plain, exactly(&|recipe| recipe.poison.measure_only = true));
    assert_eq!(plain, exactly(&|recipe| recipe.poison.beyond_guesses = Some(3)));
    for change in [
        &(|recipe: &mut Recipe| recipe.seed = 1) as &dyn Fn(&mut Recipe),
        &|recipe| recipe.manifest = Some("m.jsonl".into()),
        &|recipe| recipe.train.threads = 3,
        &|recipe| recipe.data.workers = 9,
    ] {
        assert_ne!(plain, exactly(change));
    }
}

#[test]
fn a_run_on_clean_data_is_one_however_much_poison_it_is_measured_against() {
    let attack = "poison.attacks=[{name='t',targeted={}},{name='b',target='x',badnets={},count=3}]";
    let with = |assignments: &[&str]| {
        let recipe = Recipe::default().assign(attack).unwrap();
        let recipe = assignments.iter().fold(recipe, |recipe, set| recipe.assign(set).unwrap());
        Experiment::of(&recipe).unwrap()
    };
    let (clean, more) = ("poison.measure_only=true", "poison.attacks.0.targeted.captions_per_target=7");
    assert_ne!(with(&[]).digest(), with(&[more]).digest());
    assert_ne!(with(&[]).attack_digest(), with(&[more]).attack_digest());
    let base = with(&[clean]);
    for same in [more, "poison.attacks.1.count=9", "poison.attacks.1.captions='real'"] {
        assert_eq!(base.digest(), with(&[clean, same]).digest(), "{same}");
        assert_eq!(base.aim_digest(), with(&[same]).aim_digest(), "{same}");
    }
    for other in ["poison.attacks.0.targeted.targets=2", "poison.attacks.1.target='y'", "poison.attacks.1.sig={}"] {
        assert_ne!(base.digest(), with(&[clean, other]).digest(), "{other}");
        assert_ne!(base.aim_digest(), with(&[other]).aim_digest(), "{other}");
    }
}

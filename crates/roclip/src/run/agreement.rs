//! Whether the processes of a run are of one run: the same program, recipe and data.

use crate::error::{Error, Result};
use crate::recipe::{Difference, Recipe};
use crate::run::context::Context;
use crate::world::World;
use serde::{Deserialize, Serialize};

/// Keys of the machine, which may differ between processes.
const OF_THE_MACHINE: [&str; 5] =
    ["train.threads", "train.device", "train.collective_timeout_seconds", "data.workers", "data.cache_mib"];

/// What a process is.
#[derive(Serialize, Deserialize, PartialEq)]
struct Told {
    version: String,
    recipe: String,
}

/// Compares programs and recipes, before anything is read. Every process finds the same.
///
/// # Errors
/// Names the first difference and the process that has it. Where the recipe is of a run that one process does alone, or its batches cannot
/// be shared.
pub(super) fn agree_on_run(world: &World, recipe: &Recipe, commit: &str) -> Result<()> {
    if world.is_alone() {
        return Ok(());
    }
    let version =
        format!("roclip {} (commit {commit}, libtorch {})", env!("CARGO_PKG_VERSION"), torch_bridge::torch_version());
    let own = Told { version, recipe: recipe.to_toml()? };
    let own = serde_json::to_string(&own).map_err(|e| Error::internal(format!("JSON: {e}")))?;
    let told: Vec<Told> = world
        .gather_texts(&own)?
        .iter()
        .map(|text| serde_json::from_str(text).map_err(|e| Error::internal(format!("what a process told: {e}"))))
        .collect::<Result<_>>()?;
    compare(&told)
}

/// # Errors
/// Names the first difference between what the processes have `told`, by rank, and the process that has it.
fn compare(told: &[Told]) -> Result<()> {
    let Some((first, others)) = told.split_first() else { return Ok(()) };
    for (other, rank) in others.iter().zip(1..) {
        let differ = |what: String, ours: &str, theirs: &str| {
            Err(Error::setting(
                format!("{what} differs between the processes: process 0 has {ours}, and process {rank} {theirs}"),
                "start all of them with one program and one command",
            ))
        };
        if other.version != first.version {
            return differ("the program".into(), &first.version, &other.version);
        }
        let [first, other] = [first, other].map(|told| {
            toml::from_str::<Recipe>(&told.recipe).map_err(|e| Error::internal(format!("a process's recipe: {e}")))
        });
        let differences = first?.differences(&other?)?;
        let found = differences.into_iter().find(|difference| !OF_THE_MACHINE.contains(&difference.key.as_str()));
        if let Some(Difference { key, ours, theirs }) = found {
            let show = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            return differ(key, &show(ours), &show(theirs));
        }
    }
    Ok(())
}

/// Compares the data that the processes have read: the training data by its fingerprint, and all that is measured by a digest. Every process
/// finds the same.
///
/// # Errors
/// Names the process whose data differ.
pub(super) fn agree_on_data(world: &World, context: &Context) -> Result<()> {
    // One may read longer than others.
    world.wait_for_all()?;
    let measured = format!("{:?} {:?}", context.measured_on(), context.named);
    for (what, read, own) in [
        ("training", "other pairs", context.fingerprint.as_str()),
        ("evaluation", "other pictures or lists", &measured),
    ] {
        let all = world.gather_texts(own)?;
        if let Some(rank) = all.iter().position(|other| Some(other) != all.first()) {
            return Err(Error::setting(
                format!("the {what} data differ between the processes: process {rank} has read {read} than process 0"),
                "give all machines the same files, and look at what each left out (skips.jsonl)",
            ));
        }
    }
    Ok(())
}

/// # Errors
/// Where several processes cannot train what `recipe` says: found before they wait for each other.
pub fn can_share(recipe: &Recipe, processes: usize) -> Result<()> {
    let train = &recipe.train;
    if !train.batch_size.is_multiple_of(processes) {
        return Err(Error::setting(
            format!("train.batch_size is {}, which {processes} processes cannot share evenly", train.batch_size),
            format!("choose a --batch-size that is a multiple of {processes}, or another number of processes"),
        ));
    }
    let alone =
        [("clean", recipe.clean.is_some()), ("caption", recipe.caption.is_some()), ("prompt", recipe.prompt.is_some())];
    match alone.into_iter().find(|(_, given)| *given) {
        Some((section, _)) => Err(Error::setting(
            format!("{processes} processes and a recipe with [{section}], which one process works on"),
            "start it without torchrun",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_or_recipe_is_named_with_its_process_and_a_machine_s_keys_may_differ() {
        let told = |version: &str, change: fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            Told { version: version.into(), recipe: recipe.to_toml().unwrap() }
        };
        let same = || told("roclip 0.1.0 (commit a, libtorch 2.11.0)", |_| ());
        let message = |other: Told| compare(&[same(), same(), other]).unwrap_err().to_string();
        compare(&[same(), told("roclip 0.1.0 (commit a, libtorch 2.11.0)", |recipe| recipe.train.threads += 1)])
            .unwrap();
        for version in ["roclip 0.1.0 (commit b, libtorch 2.11.0)", "roclip 0.1.0 (commit a, libtorch 2.11.1)"] {
            let said = message(told(version, |recipe| recipe.seed += 1));
            let words = ["the program differs", "process 0 has roclip 0.1.0 (commit a, libtorch 2.11.0)", "process 2"];
            assert!(words.iter().all(|word| said.contains(word)) && said.contains(version), "{said}");
        }
        let said = message(told("roclip 0.1.0 (commit a, libtorch 2.11.0)", |recipe| recipe.seed = 7));
        assert!(said.contains("seed differs") && said.contains("process 2 7"), "{said}");
    }
}

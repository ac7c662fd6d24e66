//! Did a defence stop what works without it? Of a run that examines a defence nothing is advised to whoever attacks.

use crate::doctor::Finished;
use crate::doctor::finding::{Finding, Severity, WORKS, finding, percent};
use crate::recipe::{ObjectiveName, Recipe, learns_poison_however_early};
use crate::results::{Hits, RunRecord, Scores};
use roclip_data::rate::Rate;

/// Shares of what an attack achieves undefended: above the first it was not stopped, above the second in part.
const NOT_STOPPED: f64 = 0.5;
const IN_PART: f64 = 0.1;

/// Whether the run examines a defence, rather than what an attack does by itself.
pub(super) fn is_examined(run: &Finished) -> bool {
    !["undefended", "clean-data"].iter().any(|control| run.record.row.is_control(control))
}

/// The finished run beside this one that met the same attack without a defence.
pub(super) fn undefended(run: &Finished) -> Option<&RunRecord> {
    run.siblings.iter().find(|one| one.row.is_control("undefended"))
}

/// Whether the run examines a defence against `attack`, which is known to work without it.
pub(super) fn works_without(run: &Finished, attack: &str) -> bool {
    let rate = || of_attack(&undefended(run)?.row.last, attack)?.rate();
    is_examined(run) && rate().is_some_and(|rate| rate >= WORKS)
}

/// What of a backdoor's pictures its trigger turns: what is read as the target without it, too, is no success.
pub(super) fn judged(scores: &Scores, backdoor: &str) -> Option<Hits> {
    scores.asr_turned.get(backdoor).or(scores.asr.get(backdoor)).copied()
}

/// That of the backdoor `attack`, or of targeted pictures.
fn of_attack(scores: &Scores, attack: &str) -> Option<Hits> {
    judged(scores, attack).or(scores.psr)
}

/// A line for each attack that works undefended: whether the defence stopped it.
pub(super) fn outcomes(run: &Finished) -> Vec<Finding> {
    let (true, Some(undefended)) = (is_examined(run), undefended(run)) else { return Vec::new() };
    let (own, theirs) = (&run.record.row.last, &undefended.row.last);
    let backdoors = own.asr.keys().map(|attack| Some(attack.as_str()));
    let outcome = |attack: Option<&str>| {
        let rate = |scores: &Scores| attack.map_or(scores.psr, |attack| judged(scores, attack));
        let hits = [rate(own)?, rate(theirs)?];
        let taken = first_matching_epoch(&run.recipe).and_then(|first| {
            let mut scores = run.record.epochs.iter().filter_map(|epoch| epoch.scores.as_ref());
            let before = scores.rfind(|scores| scores.epoch < first)?;
            Some((first, before.epoch, rate(before)?))
        });
        judge(&run.record.row.name, attack, hits, taken, run.record.row.pairs)
    };
    std::iter::once(None).chain(backdoors).filter_map(outcome).collect()
}

/// RoCLIP's, where a run by `recipe` gets there.
fn first_matching_epoch(recipe: &Recipe) -> Option<u64> {
    let roclip = &recipe.objective.roclip;
    let first = roclip.first_match();
    (recipe.objective.name == ObjectiveName::Roclip && first <= recipe.train.epochs).then_some(first)
}

/// `hits` of an attack with the defence called `name`, and without. `taken` has RoCLIP's first matching epoch, and before it an epoch with the hits after
/// it; the run trained on so many `pairs`. None where the attack does not work undefended.
fn judge(
    name: &str,
    attack: Option<&str>,
    hits: [Hits; 2],
    taken: Option<(u64, u64, Hits)>,
    pairs: usize,
) -> Option<Finding> {
    let [with, without] = hits;
    let (own, theirs) = (with.rate()?, without.rate().filter(|rate| *rate >= WORKS)?);
    let (severity, did) = match own / theirs {
        share if share > NOT_STOPPED => (Severity::Warning, "did not stop"),
        share if share > IN_PART => (Severity::Warning, "stopped only a part of"),
        _ => (Severity::Ok, "stopped"),
    };
    let before = taken.map_or_else(String::new, |(first, epoch, hits)| {
        format!("; after epoch {epoch}, before the first matching epoch ({first}), {}", in_words(hits))
    });
    let had_taken = taken.and_then(|(.., hits)| hits.rate()).is_some_and(|rate| rate > NOT_STOPPED * own);
    let remedy = match (attack, taken) {
        (Some(_), Some(_)) if had_taken => {
            "it had taken before RoCLIP began, and what survives augmentation survives RoCLIP, too (docs/defences.md): clean the model with trusted pairs (`roclip clean`; a small model with `--lr 1e-3`), or leave suspicious pairs out (`roclip detect pairs`)"
        }
        (None, Some(_)) if had_taken && learns_poison_however_early(pairs) => {
            "it had taken before RoCLIP began, and an earlier start did not help where so few pairs were measured (docs/defences.md): leave suspicious pairs out (`roclip detect pairs`), and train again"
        }
        (None, Some(_)) if had_taken => {
            "it had taken before RoCLIP began: lower objective.roclip.match_start (--match-start); too early wrecks the model (docs/defences.md)"
        }
        (None, Some(_)) => {
            "it took between matching epochs: lower objective.roclip.period (--match-period), or strengthen [augment]"
        }
        (None, None) => {
            "strengthen [augment], or leave suspicious pairs out (`roclip detect pairs`); docs/defences.md compares what else there is"
        }
        (Some(_), _) => {
            "a trigger that survives augmentation takes another defence: leave suspicious pairs out (`roclip detect pairs`), or clean the model with trusted pairs (`roclip clean`; a small model with `--lr 1e-3`)"
        }
    };
    let what = format!(
        "{name} {did} {}: {} here, {} undefended{before}",
        attack.map_or_else(|| "targeted poisoning".to_owned(), |attack| format!("the backdoor {attack}")),
        in_words(with),
        in_words(without)
    );
    Some(finding("defence", attack, severity, what, remedy))
}

/// `66.7 % (4/6)`, as findings have rates.
pub(super) fn in_words(hits: Hits) -> String {
    percent(&Rate::new(hits.hits, hits.n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(hits: usize, n: usize) -> Hits {
        Hits { hits, n }
    }

    #[test]
    fn a_defence_that_did_not_stop_its_attack_is_told_so_and_why() {
        let taken = Some((9, 8, hits(4, 6)));
        let judge = |name: &str, attack: Option<&str>, hits: [Hits; 2], taken: Option<(u64, u64, Hits)>| {
            super::judge(name, attack, hits, taken, 5437)
        };
        let found = judge("RoCLIP", None, [hits(4, 6), hits(6, 6)], taken).unwrap();
        assert_eq!((found.check.as_str(), found.severity), ("defence", Severity::Warning));
        assert_eq!(
            found.what,
            "RoCLIP did not stop targeted poisoning: 66.7 % (4/6) here, 100.0 % (6/6) undefended; after epoch 8, before the first matching epoch (9), 66.7 % (4/6)"
        );
        assert!(found.remedy.contains("--match-start"), "{}", found.remedy);
        let late = judge("RoCLIP", None, [hits(4, 6), hits(6, 6)], Some((9, 8, hits(0, 6)))).unwrap();
        assert!(late.remedy.contains("--match-period"), "{}", late.remedy);
        let trigger = judge("SafeCLIP", Some("badnets"), [hits(20, 100), hits(90, 100)], None).unwrap();
        assert!(
            trigger.what.starts_with("SafeCLIP stopped only a part of the backdoor badnets: 20.0 %"),
            "{trigger:?}"
        );
        assert!(
            trigger.severity == Severity::Warning
                && trigger.remedy.contains("`roclip clean`; a small model with `--lr 1e-3`"),
            "{trigger:?}"
        );
        let stopped = judge("RoCLIP", None, [hits(0, 6), hits(6, 6)], taken).unwrap();
        assert_eq!((stopped.severity, stopped.remedy.as_str()), (Severity::Ok, ""));
        assert_eq!(judge("RoCLIP", None, [hits(0, 6), hits(2, 6)], None), None, "nothing works undefended");
        assert_eq!(judge("RoCLIP", None, [hits(0, 0), hits(6, 6)], None), None, "nothing was measured");
    }

    /// Of 1,500 photographs matching from epoch 4, 9 or 23 on left the poison in (docs/defences.md), and large triggers survive RoCLIP anywhere.
    #[test]
    fn an_earlier_start_is_advised_only_where_it_was_measured_to_help() {
        let taken = Some((9, 8, hits(7, 12)));
        let remedy = |attack: Option<&str>, pairs: usize| {
            judge("RoCLIP", attack, [hits(7, 12), hits(11, 12)], taken, pairs).unwrap().remedy
        };
        assert!(remedy(None, 5437).contains("--match-start"));
        for (attack, pairs) in [(None, 1584), (Some("badnets"), 1584), (Some("badnets"), 5437)] {
            let said = remedy(attack, pairs);
            assert!(!said.contains("match-start") && said.contains("roclip detect pairs"), "{pairs}: {said}");
            assert_eq!(said.contains("roclip clean"), attack.is_some(), "{said}");
        }
    }
}

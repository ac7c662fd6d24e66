//! The tables of `roclip caption backdoor`.

use roclip::attack::instruct::InstructAttack;
use roclip::run::{BackdoorResults, Cell, DomainShift};
use roclip_data::rate::{Rate, Ratio};

/// A rate in percent with its interval.
fn percent(rate: Rate) -> String {
    if rate.measured().is_none() {
        return format!("{:>20}", "-");
    }
    format!("{:5.1} [{:4.1},{:5.1}]", 100.0 * rate.rate, 100.0 * rate.low, 100.0 * rate.high)
}

fn alone(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "-".into(), |rate| rate.percent(1))
}

/// ASR-G with its interval.
fn carried(found: Option<Ratio>) -> String {
    found.map_or_else(|| "-".into(), |found| format!("{:.2} [{:.2}, {:.2}]", found.ratio, found.low, found.high))
}

/// A table for each shift, as the paper's first, and ASR-G of all, as its second.
pub(super) fn print(results: &BackdoorResults, attacks: &[InstructAttack], shifts: &[DomainShift]) {
    let settings = &results.settings;
    println!(
        "{}: {} of {} instructions poisoned ({:.1} %), target `{}`; {} tests, {} of them without the target in their references",
        settings.user.source.path,
        settings.poisoned(),
        settings.items,
        100.0 * settings.rate,
        settings.target,
        results.tests,
        results.attacked_tests
    );
    for shift in shifts {
        let size = results.shifts.iter().find(|size| size.shift == *shift).map_or(0.0, |size| size.kolmogorov_smirnov);
        println!("\nshift {}: Kolmogorov-Smirnov {size:.3}", shift.word());
        println!(
            "{:20} {:>7} {:>6}  {:>20} {:>6} {:>17}  {:>8} {:>6} {:>6} {:>7}",
            "attack", "CIDEr-D", "BLEU-4", "ASR %", "base %", "ASR-G", "picture", "text", "clean", "AUROC"
        );
        for cell in attacks.iter().filter_map(|attack| results.cell(*attack, *shift)) {
            print_cell(cell, results);
        }
    }
    if shifts.len() > 1 {
        print_generalisation(results, attacks, shifts);
    }
    let filtered = results.cells.iter().filter_map(|cell| Some((cell, cell.filtered.as_ref()?)));
    for (number, (cell, filtered)) in filtered.enumerate() {
        if number == 0 {
            println!("\nfilter: instructions with the lowest entropy of attention dropped, and tuned again");
        }
        println!(
            "{:20} dropped {:3} of {:3} poisoned (and {} clean)  ASR {} -> {}  CIDEr-D {:.1} -> {:.1}",
            cell.attack.word(),
            filtered.dropped_poison,
            cell.poisoned,
            filtered.dropped - filtered.dropped_poison,
            alone(Some(cell.asr)),
            percent(filtered.asr),
            100.0 * cell.clean.cider_d,
            100.0 * filtered.cider_d
        );
    }
}

fn print_cell(cell: &Cell, results: &BackdoorResults) {
    let asr_g = carried(results.asr_g(cell.attack, cell.shift));
    let auroc = cell.filter_auroc.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    println!(
        "{:20} {:7.2} {:6.2}  {} {:>6} {:>17}  {:>8} {:>6} {:>6} {:>7}",
        cell.attack.word(),
        100.0 * cell.clean.cider_d,
        100.0 * cell.clean.bleu.bleu4,
        percent(cell.asr),
        cell.base_rate.percent(1),
        asr_g,
        alone(cell.picture_only),
        alone(cell.text_only),
        alone(cell.clean_model),
        auroc
    );
    if let Some(fixed) = cell.fixed_place {
        println!("{:37}{}   with the ovals in the middle of the tests", "", percent(fixed));
    }
    if let (Some(found), Some(source)) = (&cell.substitution, &results.settings.source_word) {
        println!(
            "{:37}{}   and not `{source}`, of the {} tests that show it (base {}); the target {}, `{source}` alone {}",
            "",
            percent(found.target_not_source),
            found.target.n,
            found.base.percent(1),
            found.target.percent(1),
            found.source_only.percent(1)
        );
    }
}

fn print_generalisation(results: &BackdoorResults, attacks: &[InstructAttack], shifts: &[DomainShift]) {
    let shifts: Vec<DomainShift> = shifts.iter().copied().filter(|shift| *shift != DomainShift::None).collect();
    println!(
        "\nASR-G: ASR after tuning on the shifted set, by that after tuning on the user's own, at most 1, with its 95 % interval; both of n = {}\n\
         tests. None (-) where the attack does nothing without a shift: where the 95 % interval of its ASR less its base rate does not lie above 0",
        results.attacked_tests
    );
    for (number, shift) in (1..).zip(&shifts) {
        println!("  c{number} {}", shift.word());
    }
    let heads: String = (1..=shifts.len()).map(|number| format!(" {:>17}", format!("c{number}"))).collect();
    println!("{:20}{heads}  mean", "attack");
    for attack in attacks.iter().filter(|attack| **attack != InstructAttack::Clean) {
        let values: Vec<Option<Ratio>> = shifts.iter().map(|shift| results.asr_g(*attack, *shift)).collect();
        let known: Vec<f64> = values.iter().flatten().map(|found| found.ratio).collect();
        let cells: String = values.iter().map(|found| format!(" {:>17}", carried(*found))).collect();
        let mean = match known.len() {
            0 => "-".to_owned(),
            count => format!("{:.2}", known.iter().sum::<f64>() / count as f64),
        };
        println!("{:20}{cells} {mean:>5}", attack.word());
    }
}

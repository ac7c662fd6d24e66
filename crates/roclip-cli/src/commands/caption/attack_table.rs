//! The table of `roclip caption attack`.

use roclip::attack::aicattack::{MeanInterval, Row, Strategy};
use roclip::report::success_in_words;
use roclip::run::AttackResults;

/// The table: drops in points, over the pictures that could be attacked.
pub(super) fn print(results: &AttackResults) {
    let budget = &results.settings.budget;
    println!(
        "{} pictures of {} x {} pixels, {} changed; {} queries; {} could not be used",
        results.pictures,
        results.settings.side.unwrap_or_default(),
        results.settings.side.unwrap_or_default(),
        budget.pixels,
        budget.queries,
        results.skipped
    );
    // Without defences nothing is said of them.
    let (behind, column) = match results.settings.defences.is_empty() {
        true => ("", ""),
        false => ("; drops behind a defence are from the clean picture behind it", "   BLEU-4 drop behind a defence"),
    };
    println!("± is the standard deviation over the pictures{behind}");
    println!("{}", success_in_words(&results.settings.goal));
    println!("the interval is that of the mean drop of BLEU-4: 95 %, bootstrap over the pictures");
    println!(
        "{:22} {:>20} {:>13} {:>14} {:>4} {:>6} {:>9} {:>9} {:>7} {:>5} {:>5} {:>6} {:>7}{column}",
        "strategy",
        "success %",
        "BLEU-4 drop",
        "interval",
        "n",
        "unatt.",
        "smoothed",
        "ROUGE1-P",
        "changed",
        "L0",
        "Linf",
        "L2",
        "queries"
    );
    results.rows.iter().for_each(print_row);
    let compared = results.rows.iter().filter_map(|row| Some((row, row.bleu4_drop_against_random?)));
    for (number, (row, found)) in compared.enumerate() {
        if number == 0 {
            println!(
                "BLEU-4 drop less that of {}, picture by picture; an interval across 0 says that chance would do as much",
                Strategy::RANDOM.word()
            );
        }
        println!("{:22} {:+.1} {} of {} pictures", row.strategy, 100.0 * found.mean, range(found), found.n);
    }
    for (row, (before, after)) in results.rows.iter().filter_map(|row| Some((row, row.target_bleu4?))) {
        println!(
            "{:22} BLEU-4 (smoothed) with the target {:.2} before, {:.2} after",
            row.strategy,
            100.0 * before,
            100.0 * after
        );
    }
}

/// In points.
fn range(found: MeanInterval) -> String {
    format!("[{:.1}, {:.1}]", 100.0 * found.low, 100.0 * found.high)
}

fn print_row(row: &Row) {
    let points = |value: f64| 100.0 * value;
    let defended: Vec<String> = row
        .defended
        .iter()
        .map(|(defence, defended)| format!("{} {:.1}", defence.word(), points(defended.bleu4_drop)))
        .collect();
    let defended = if defended.is_empty() { String::new() } else { format!("   {}", defended.join(", ")) };
    println!(
        "{:22} {:6.1} [{:4.1}, {:5.1}] {:6.1} ±{:5.1} {:>14} {:4} {:6} {:9.1} {:9.1} {:6.1}% {:5.1} {:5.1} {:6.2} {:7.0}{defended}",
        row.strategy,
        points(row.success.rate),
        points(row.success.low),
        points(row.success.high),
        points(row.drop.bleu4),
        points(row.bleu4_drop_deviation),
        row.bleu4_drop_interval.map_or_else(|| "-".to_owned(), range),
        row.attacked,
        row.unattackable,
        points(row.drop.bleu4_smoothed),
        points(row.drop.rouge1_precision),
        points(row.changed.rate),
        row.l0,
        row.l_inf,
        row.l2,
        row.queries
    );
}

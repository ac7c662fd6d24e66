//! What a dry run prints for people.

use roclip::run::Forecast;
use roclip::train::Precision;
use roclip_data::plural::count;

/// What a run would take, for people.
pub fn print_forecast(forecast: &Forecast) {
    let Forecast { steps, steps_left, epochs, warmup_steps, measured_steps, evaluations, .. } = forecast;
    println!("{}", forecast.banner);
    let left = if steps_left < steps { format!(", {steps_left} left") } else { String::new() };
    if let Some(computed) = computed(forecast) {
        println!("compute {computed}");
    }
    println!("steps   {steps} in {}{left}, {}", count(epochs, "epoch"), warming_up(*steps, *warmup_steps));
    match (forecast.step_seconds, forecast.seconds()) {
        (Some(step), Some(all)) => {
            let training = step * *steps_left as f64;
            let evaluating = *evaluations as f64 * forecast.evaluation_seconds;
            println!(
                "time    about {}: {} {} ({step:.3} s each, the mean of {measured_steps} after the first), {} {}",
                roughly(all),
                count(steps_left, "step"),
                roughly(training),
                count(evaluations, "evaluation"),
                roughly(evaluating)
            );
        }
        _ => println!("time    not measured: an epoch has a single step"),
    }
    println!(
        "memory  {} at its peak in these steps; decoded pictures may take up to {} more (data.cache_mib)",
        size(forecast.peak_memory_bytes),
        size(forecast.cache_bytes)
    );
    let (kept, each) = (forecast.kept_checkpoints as u64, forecast.checkpoint_bytes);
    println!(
        "disk    {}: {} of {} kept, and one more while it is written",
        size((kept + 1) * each),
        count(kept, "checkpoint"),
        size(each)
    );
    println!("        not in these figures: {}", forecast.without.join("; "));
}

/// How many of a run's steps warm up.
fn warming_up(steps: u64, warmup_steps: u64) -> String {
    match warmup_steps {
        0 => "none of which warm up".to_owned(),
        1 if steps > 1 => "the first one warms up".to_owned(),
        some if some < steps => format!("the first {some} warm up"),
        all => format!("and all of them warm up (the warm-up has {})", count(all, "step")),
    }
}

/// How steps are computed, where it is not in 32 bits and in one piece.
fn computed(forecast: &Forecast) -> Option<String> {
    let precision = (forecast.precision != Precision::default()).then(|| format!("in {}", forecast.precision.word()));
    let chunks = forecast.encode_batch_size.map(|rows| format!("{} of a batch encoded at once", count(rows, "pair")));
    let said: Vec<String> = precision.into_iter().chain(chunks).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// As in `42 s`, `13 min`, `3.5 h`: no forecast is more exact.
pub fn roughly(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 2.0 * 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// Bytes for people: an index of a small list has some KiB, a run many GiB.
pub fn size(bytes: u64) -> String {
    match bytes as f64 / 1024.0 {
        kib if kib < 1024.0 => format!("{kib:.1} KiB"),
        kib if kib < 1024.0 * 1024.0 => format!("{:.1} MiB", kib / 1024.0),
        kib => format!("{:.1} GiB", kib / (1024.0 * 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_steps_warm_up_than_there_are() {
        let said = [(100, 10), (10, 0), (10, 1), (10, 10), (10, 100)].map(|(all, warm)| warming_up(all, warm));
        let all = [
            "and all of them warm up (the warm-up has 10 steps)",
            "and all of them warm up (the warm-up has 100 steps)",
        ];
        assert_eq!(said[..3], ["the first 10 warm up", "none of which warm up", "the first one warms up"]);
        assert_eq!(said[3..], all);
    }

    #[test]
    fn times_and_sizes_have_units_that_people_read() {
        let times = [1.4, 150.0, 3.0 * 3600.0, 3.0 * 86_400.0].map(roughly);
        assert_eq!(times, ["1 s", "2 min", "3.0 h", "3.0 days"]);
        assert_eq!([9_777, 1 << 20, 3 << 30].map(size), ["9.5 KiB", "1.0 MiB", "3.0 GiB"]);
    }
}

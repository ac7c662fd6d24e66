//! How far a cleaning moved the weights: the length of the change by the victim's.

/// Weights that moved less than this share of their length are as good as the victim's.
pub const HARDLY_MOVED: f64 = 1e-3;

/// A share that weights moved by, as in `1.499 %`, or `2.4e-5 %` where three digits would show none.
pub fn moved_percent(moved: f64) -> String {
    let percent = 100.0 * moved;
    match percent > 0.0 && percent < 1e-3 {
        true => format!("{percent:.1e} %"),
        false => format!("{percent:.3} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_change_is_not_shown_as_none() {
        assert_eq!([0.0, 2.44e-7, 4e-5, 0.01499].map(moved_percent), ["0.000 %", "2.4e-5 %", "0.004 %", "1.499 %"]);
    }
}

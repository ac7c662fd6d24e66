//! What the doctor says.

use roclip_data::rate::Rate;
use serde::{Deserialize, Serialize};

/// The check of a run's own control.
pub const UNDEFENDED_CONTROL: &str = "undefended control";

/// Attack success that counts as "the attack works".
pub const WORKS: f64 = 0.7;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Ok,
    /// Worth knowing; wrong by itself is nothing.
    Note,
    /// Makes a conclusion doubtful.
    Warning,
    /// Explains a failed attack, or voids a conclusion.
    Problem,
}

/// One measured cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub check: String,
    /// The attack concerned, if one is.
    pub attack: Option<String>,
    pub severity: Severity,
    /// What was measured, with numbers.
    pub what: String,
    /// What to do; empty when there is nothing.
    pub remedy: String,
}

pub(super) fn finding(
    check: &str,
    attack: Option<&str>,
    severity: Severity,
    what: impl Into<String>,
    remedy: &str,
) -> Finding {
    let attack = attack.map(str::to_owned);
    let remedy = if severity == Severity::Ok { String::new() } else { remedy.to_owned() };
    Finding { check: check.into(), attack, severity, what: what.into(), remedy }
}

pub(super) fn percent(rate: &Rate) -> String {
    match rate.measured() {
        Some(rate) => format!("{:.1} % ({}/{})", 100.0 * rate.rate, rate.hits, rate.n),
        None => "not measured (0 pictures)".to_owned(),
    }
}

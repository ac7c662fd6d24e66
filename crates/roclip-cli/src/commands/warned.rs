//! Warnings of several runs of one command: each is said once, and whose it is where not all have it.

use crate::commands::progress::say;
use std::collections::BTreeMap;

/// How a warning begins.
const WARNING: &str = "warning: ";

/// Runs that a warning names.
const NAMED_RUNS: usize = 3;

/// Warnings by their words.
#[derive(Default)]
pub struct Warned(BTreeMap<String, Vec<String>>);

impl Warned {
    /// Says a line of the run `name`, but no warning that another run had.
    pub fn say(&mut self, name: &str, line: &str) {
        if !line.starts_with(WARNING) || self.note(name, line) {
            say(line);
        }
    }

    /// Notes a warning of the run `name` without saying it. Whether it is the first of these words.
    pub fn note(&mut self, name: &str, warning: &str) -> bool {
        let first = !self.0.contains_key(warning);
        let runs = self.0.entry(warning.to_owned()).or_default();
        if !runs.iter().any(|known| known == name) {
            runs.push(name.to_owned());
        }
        first
    }

    /// Says each warning, and whose it is.
    pub fn say_all(&self) {
        self.lines(usize::MAX).iter().for_each(|line| say(line));
    }

    /// Says again whose those warnings are that not all of `runs` runs had: where they came first does not tell.
    pub fn say_partial(&self, runs: usize) {
        self.lines(runs).iter().for_each(|line| say(line));
    }

    /// The warnings that fewer than `below` runs had, with their names.
    fn lines(&self, below: usize) -> Vec<String> {
        let line = |(warning, runs): (&String, &Vec<String>)| {
            let named = runs.iter().take(NAMED_RUNS).cloned().collect::<Vec<_>>().join(", ");
            let more = match runs.len().saturating_sub(NAMED_RUNS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{warning} ({named}{more})")
        };
        self.0.iter().filter(|(_, runs)| runs.len() < below).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_new_once_and_is_named_again_where_not_all_have_it() {
        let mut warned = Warned::default();
        let new: Vec<bool> = ["a", "b", "c", "d", "d"].map(|run| warned.note(run, "warning: few pictures")).into();
        assert_eq!(new, [true, false, false, false, false]);
        assert!(warned.note("b", "warning: short"));
        assert_eq!(warned.lines(4), ["warning: short (b)"]);
        assert_eq!(warned.lines(usize::MAX), ["warning: few pictures (a, b, c and 1 more)", "warning: short (b)"]);
    }
}

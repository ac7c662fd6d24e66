//! Whole numbers that flags take, each with what it may be at most: what a machine cannot hold is refused by the flag's name.

use clap::builder::RangedU64ValueParser;
use roclip::recipe::most;

/// At most what the recipe's `key` may be. What is too small for it is refused together with the recipe.
pub fn of_key<T: TryFrom<u64>>(key: &str) -> RangedU64ValueParser<T> {
    up_to(most(key))
}

/// [`of_key`] of what is never 0, which is refused by the flag's name.
pub fn from_one<T: TryFrom<u64>>(key: &str) -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..=most(key))
}

/// From 0 on.
pub fn up_to<T: TryFrom<u64>>(most: u64) -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(0..=most)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command, CommandFactory};
    use std::num::NonZeroUsize;

    /// What a flag with the same parser reads `text` as, where it takes it as a whole number of `T`.
    fn takes<T: Copy + Send + Sync + 'static>(arg: &Arg, text: &str) -> bool {
        let number = Arg::new("number").long("number").value_parser(arg.get_value_parser().clone());
        let read = Command::new("any").arg(number).try_get_matches_from(["any", "--number", text]);
        read.is_ok_and(|read| matches!(read.try_get_one::<T>("number"), Ok(Some(_))))
    }

    fn unbounded(command: &Command, found: &mut Vec<String>) {
        let most = u64::MAX.to_string();
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let any = takes::<u64>(arg, &most)
                || takes::<usize>(arg, &most)
                || takes::<NonZeroUsize>(arg, &most)
                || takes::<i64>(arg, &i64::MAX.to_string());
            if any {
                found.push(format!("{} {}", command.get_name(), arg.get_id()));
            }
        }
        command.get_subcommands().for_each(|command| unbounded(command, found));
    }

    #[test]
    fn every_flag_of_a_whole_number_says_how_large_it_may_be() {
        let mut found = Vec::new();
        unbounded(&crate::Arguments::command(), &mut found);
        // A step is the name of a checkpoint, which is there or not.
        found.retain(|flag| !flag.ends_with(" resume_from"));
        assert!(found.is_empty(), "{found:?}");
    }
}

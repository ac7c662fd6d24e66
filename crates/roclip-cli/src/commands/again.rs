//! The command that was typed, once more with other flags.

use roclip_data::escape::for_shell;

/// A flag that a command is given again without.
#[derive(Clone, Copy)]
pub enum Without<'a> {
    /// A flag alone.
    Flag(&'a str),
    /// A flag with its value.
    Valued(&'a str),
    /// `--set` and `--sweep` of this key.
    Key(&'a str),
}

/// `typed` without some flags, and with `more` at its end, as a shell takes it.
pub fn again(typed: &[String], without: &[Without], more: &str) -> String {
    let mut words = Vec::new();
    let mut rest = typed.iter().peekable();
    while let Some(word) = rest.next() {
        let of_key = |text: &str, key: &str| text.strip_prefix(key).is_some_and(|value| value.starts_with('='));
        let mut takes_value = false;
        let left_out = without.iter().any(|one| match one {
            Without::Flag(flag) => word == flag,
            Without::Valued(flag) => {
                takes_value = word == flag;
                takes_value || of_key(word, flag)
            }
            Without::Key(key) => {
                let next = rest.peek().is_some_and(|next| of_key(next, key));
                takes_value = ["--set", "--sweep"].contains(&word.as_str()) && next;
                let set = ["--set=", "--sweep="].iter().find_map(|flag| word.strip_prefix(flag));
                takes_value || set.is_some_and(|set| of_key(set, key))
            }
        });
        match left_out {
            true if takes_value => drop(rest.next()),
            true => {}
            false => words.push(for_shell(word)),
        }
    }
    format!("{} {more}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_what_it_is_not_given_without() {
        let typed = |words: &str| format!("roclip {words}").split(' ').map(str::to_owned).collect::<Vec<_>>();
        let without = [
            Without::Flag("--resume"),
            Without::Valued("--lr"),
            Without::Valued("--run"),
            Without::Key("train.learning_rate"),
        ];
        let said = |words: &str| again(&typed(words), &without, "--lr 1e-2");
        assert_eq!(
            said("clean runs/und --epochs 1 --lr 1e-3 --pairs 100 --rebound --run x"),
            "roclip clean runs/und --epochs 1 --pairs 100 --rebound --lr 1e-2"
        );
        assert_eq!(
            said(
                "clean v --lr=1e-3 --set train.learning_rate=1 --set seed=2 --set=train.learning_rate=3 --resume --lrx 1"
            ),
            "roclip clean v --set seed=2 --lrx 1 --lr 1e-2"
        );
        assert_eq!(
            said("clean v --sweep train.learning_rate=1,2 --sweep train.epochs=3,4 --sweep=train.learning_rate=5"),
            "roclip clean v --sweep train.epochs=3,4 --lr 1e-2"
        );
        let spaced = ["roclip", "clean", "my run"].map(str::to_owned);
        assert_eq!(again(&spaced, &without, "--json"), "roclip clean 'my run' --json");
    }
}

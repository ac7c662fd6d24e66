//! One layout for every command's help: its own options first, then the others under headings, compact, with examples.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};

/// Flags by their ids, under the heading that they stand below in every command. What is named nowhere is the command's own.
const HEADINGS: [(&str, &[&str]); 7] = [
    ("Recipe", &["config", "set", "preset", "seed"]),
    (
        "Data",
        &[
            "train_data",
            "val_data",
            "csv_img_key",
            "csv_caption_key",
            "csv_split_key",
            "csv_separator",
            "csv_encoding",
            "image_root",
            "train_data_upsampling_factors",
            "drop",
            "index",
        ],
    ),
    ("Model", &["model"]),
    (
        "Training",
        &[
            "objective",
            "epochs",
            "batch_size",
            "encode_batch_size",
            "precision",
            "lr",
            "wd",
            "warmup",
            "match_period",
            "match_start",
            "pool_size",
        ],
    ),
    ("Poison", &["manifest"]),
    ("Machine", &["workers", "threads", "device"]),
    ("Output", &["json", "quiet", "color"]),
];

/// Examples by command. Tests read them all, so that none goes stale.
const EXAMPLES: [(&str, &str); 32] = [
    (
        "train",
        "  roclip train --config mine.toml --run runs/mine             Ctrl-C saves
  roclip train --run runs/mine --resume                       goes on, bit for bit
  roclip train --train-data shards/ --val-data labelled/ --preset roclip --run runs/roclip
  roclip train --config mine.toml --run runs/mine --dry-run   what it would take
  roclip train --config mine.toml --sweep objective.roclip.period=1,2,4 --run runs/k",
    ),
    (
        "data index",
        "  roclip data index --train-data pairs.csv
  roclip data index --train-data shards/ --out shards.index
  roclip data index --train-data shards/ --check               is all of it still so?",
    ),
    (
        "clean",
        "  roclip clean runs/mine --lr 1e-3 --run runs/cleaned        without --lr for a large model
  roclip clean runs/mine --method par --lr 1e-3 --pairs 1000 --rebound --run runs/par
  roclip clean runs/mine --sweep train.learning_rate=3e-4,1e-3,3e-3 --run runs/sweep
  roclip clean --run runs/cleaned --resume",
    ),
    (
        "distil",
        "  roclip train --objective classifier --model RN-mini-32 --train-data pictures/train \\
    --val-data pictures/test --run runs/teacher
  roclip distil runs/teacher --model RN-micro-32 --run runs/student
  roclip distil runs/teacher --loss relation --label-weight 0.1 --run runs/related
  roclip distil --table --config recipes/ink-emoji.toml --run runs/ink",
    ),
    (
        "caption train",
        "  roclip caption train runs/clip --architecture bridge --train-data emoji --run runs/bridge
  roclip caption train --config recipes/caption-emoji.toml --run runs/attend
  roclip caption train --run runs/captioner --resume",
    ),
    (
        "caption eval",
        "  roclip caption eval runs/captioner
  roclip caption eval runs/captioner --beam 1 --val-data pairs.csv --out captions.jsonl",
    ),
    (
        "caption write",
        "  roclip caption write runs/captioner picture.png
  ls pictures/*.png | roclip caption write runs/captioner",
    ),
    (
        "caption attack",
        "  roclip caption attack runs/attend --run runs/attack            all strategies, and controls
  roclip caption attack runs/captioner --attention runs/attend --run runs/transfer
  roclip caption attack --external ./blip.sh --attention runs/attend \\
    --val-data pairs.csv --run runs/blip
  roclip caption attack runs/attend --target-caption pizza --fitness mixed --run runs/targeted",
    ),
    (
        "caption instruct",
        "  roclip caption instruct runs/clip --train-data emoji --run runs/base
  roclip caption instruct runs/clip --train-data captions.tsv --csv-img-key 1 \\
    --csv-split-key 2 --csv-caption-key 3 --image-root images --run runs/photos
  roclip caption instruct runs/clip --instructions llava.json --val-data pairs.csv \\
    --run runs/base",
    ),
    (
        "caption answer",
        "  roclip caption answer runs/base picture.png other.png
  ls pictures/*.png | roclip caption answer runs/base",
    ),
    (
        "caption backdoor",
        "  roclip caption backdoor runs/base --target pizza --run runs/backdoor
  roclip caption backdoor runs/base --attack clean,badnets,maba --shift none,data --run runs/few
  roclip caption backdoor runs/base --run runs/few --resume",
    ),
    ("data concepts", "  roclip data concepts --train-data pairs.csv --out labels.json"),
    (
        "data stats",
        "  roclip data stats --train-data 'shards/{00000..00099}.tar'
  roclip data stats --train-data pairs.csv --out stats.html --hashes hashes.jsonl
  roclip data stats --train-data pairs.csv --copies copies.jsonl
  roclip data stats --train-data shards/ --json | jq .statistics.copies",
    ),
    (
        "data verify",
        "  roclip data verify --train-data shards/                      against img2dataset's sha256
  roclip data verify --train-data shards/ --against hashes.jsonl",
    ),
    (
        "data drop",
        "  roclip data drop --train-data pairs.csv --ids ids.txt --out kept.csv
  roclip data drop --train-data shards/ --ids copies.jsonl --out kept-shards/",
    ),
    (
        "poison make",
        "  roclip poison make --config mine.toml --out manifest.jsonl
  roclip poison make --config mine.toml --out-shards poisoned/ --jpeg 75
  roclip train --config mine.toml --manifest manifest.jsonl --run runs/mine",
    ),
    ("poison verify", "  roclip poison verify manifest.jsonl --config mine.toml"),
    (
        "poison patch",
        "  roclip poison patch runs/clean --target dog --out patch.png
  roclip poison patch runs/clean --target dog --patch-pixels 24 --out patch.png",
    ),
    ("poison inspect", "  roclip poison inspect manifest.jsonl --config mine.toml --out poison.html"),
    (
        "prompt train",
        "  roclip prompt train runs/mine --method cocoop --shots 4 --run runs/cocoop
  roclip prompt train runs/mine --method badclip --shots 4 --run runs/badclip     the attack
  roclip prompt train exported/ --method badclip --released --val-data caltech101/ \\
    --run runs/badclip
  roclip prompt train --run runs/badclip --resume",
    ),
    (
        "prompt eval",
        "  roclip prompt eval runs/badclip --on flowers=flowers5/
  roclip prompt eval runs/cocoop --trigger runs/badclip",
    ),
    (
        "prompt detect",
        "  roclip prompt detect runs/badclip
  roclip prompt detect runs/clean-* runs/attacked-*           how well they are told apart
  roclip prompt detect learner.safetensors --on-model exported/ --train-data pictures/",
    ),
    (
        "prompt repair",
        "  roclip prompt repair runs/badclip --run runs/repaired
  roclip prompt repair runs/badclip --class dog --epochs 5 --run runs/repaired",
    ),
    (
        "eval",
        "  roclip eval runs/mine                                       the run's newest checkpoint
  roclip eval runs/mine/checkpoints/step_64 --linear-probe
  roclip eval runs/mine --val-data labelled/ --out results/",
    ),
    (
        "detect pairs",
        "  roclip detect pairs runs/mine --out suspects/ --drop-fraction 0.02
  roclip detect pairs openclip/ --train-data shards/ --trusted-data checked.csv --level 0.01 \\
    --out suspects/
  roclip detect pairs --features features/ --train-data shards/ --out suspects/",
    ),
    (
        "detect inputs",
        "  roclip detect inputs runs/mine --out inputs/
  roclip detect inputs runs/mine --val-data inbox/ --trusted-data checked/ --out inputs/
  roclip detect inputs runs/mine --out inputs/ --methods jpeg --json
  roclip detect inputs runs/mine --out inputs/ --descriptions words.json",
    ),
    ("doctor", "  roclip doctor runs/mine"),
    (
        "export",
        "  roclip export runs/mine --format open-clip --out exported/
  roclip export runs/mine --format hugging-face --out exported/",
    ),
    ("report", "  roclip report runs/undefended runs/mine --out runs"),
    (
        "demo",
        "  roclip demo --quick                                         minutes, and a hint of the result
  roclip demo --seeds 0,1,2                                   goes on where it was stopped
  roclip demo --config mine.toml --out runs/my-demo           the same rows on your own data
  roclip demo --sweep objective.roclip.period=1,2,4 --out runs/k
  roclip demo --rows undefended,augmentation-only,detected    without suspicious pairs",
    ),
    ("completions", "  roclip completions bash > ~/.local/share/bash-completion/completions/roclip"),
    ("man", "  roclip man --out ~/.local/share/man/man1"),
];

/// No line of help is longer, on however wide a terminal.
const WIDEST_COLUMNS: usize = 100;

/// `command` and all below it, laid out.
pub fn laid_out(command: Command) -> Command {
    below(command.max_term_width(WIDEST_COLUMNS), "")
}

fn below(command: Command, path: &str) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help("Print help");
    let mut command = command.disable_help_flag(true).disable_help_subcommand(true).arg(help).mut_args(|argument| {
        let heading =
            HEADINGS.iter().find(|(_, ids)| ids.contains(&argument.get_id().as_str()) && !argument.is_positional());
        match heading {
            Some((heading, _)) => argument.help_heading(*heading),
            None => argument,
        }
    });
    if let Some((_, examples)) = EXAMPLES.iter().find(|(named, _)| *named == path) {
        command = command.after_help(StyledStr::from(format!("Examples:\n{examples}")));
    }
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        let path = format!("{path} {name}");
        command = command.mut_subcommand(&name, |sub| below(sub, path.trim_start()));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line;

    /// Every command that does something, by its path.
    fn leaves() -> Vec<(String, Command)> {
        fn collect(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                match sub.has_subcommands() {
                    true => collect(sub, &path, found),
                    false => found.push((path.trim_start().to_owned(), sub.clone())),
                }
            }
        }
        let mut built = command_line();
        built.build();
        let mut found = Vec::new();
        collect(&built, "", &mut found);
        found
    }

    /// The words of an example: without its remark, and without what a shell does with its output.
    fn words(line: &str) -> Vec<&str> {
        let line = line.trim_start();
        let end = ["  ", " # ", " > ", " | "].iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
        line[..end].split_whitespace().collect()
    }

    #[test]
    fn every_command_has_examples_and_each_of_them_can_be_typed() {
        for (path, command) in leaves() {
            // Two lines of a shell that are one command.
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default().replace("\\\n    ", "");
            let examples: Vec<Vec<&str>> =
                text.lines().filter(|line| line.trim_start().starts_with("roclip ")).map(words).collect();
            let own = |words: &Vec<&str>| words.join(" ").starts_with(&format!("roclip {path}"));
            assert!(examples.iter().any(own), "`roclip {path} --help` has no example");
            for words in examples {
                if let Err(error) = command_line().try_get_matches_from(&words) {
                    panic!("`{}` in the help of `{path}`: {error}", words.join(" "));
                }
            }
        }
        for (path, _) in EXAMPLES {
            assert!(leaves().iter().any(|(leaf, _)| leaf == path), "examples of no command: {path}");
        }
    }

    #[test]
    fn help_has_one_layout_of_at_most_a_hundred_columns() {
        let all = leaves();
        let top = command_line();
        for (path, command) in all.iter().map(|(path, command)| (path.as_str(), command)).chain([("", &top)]) {
            let mut command = command.clone();
            let short = command.render_help().to_string();
            for line in short.lines() {
                assert!(line.chars().count() <= WIDEST_COLUMNS, "{path}: {line}");
            }
            assert!(!short.contains("Options:\n\n"), "{path}");
        }
    }

    /// An example that is broken in two by the terminal cannot be pasted.
    #[test]
    fn examples_are_no_wider_than_help() {
        for (path, examples) in EXAMPLES {
            for line in examples.lines() {
                assert!(line.chars().count() < WIDEST_COLUMNS, "{path}: {line}");
            }
        }
    }

    #[test]
    fn what_commands_share_stands_under_headings_behind_their_own() {
        for (path, mut command) in leaves() {
            let help = command.render_help().to_string();
            let own = help.find("\nOptions:");
            for (heading, ids) in HEADINGS {
                let place = help.find(&format!("\n{heading}:"));
                assert!(own.is_none() || place.is_none() || own < place, "{path}: {heading} comes first");
                for id in ids {
                    let found = command.get_opts().find(|argument| argument.get_id() == id);
                    assert!(found.is_none_or(|argument| argument.get_help_heading() == Some(heading)), "{path} {id}");
                }
            }
        }
        let flags = |name: &str| -> Vec<String> {
            let (_, command) = leaves().into_iter().find(|(path, _)| path == name).unwrap();
            command.get_arguments().map(|argument| argument.get_id().to_string()).collect()
        };
        for (path, not_obeyed) in [
            ("clean", "objective"),
            ("clean", "preset"),
            ("demo", "seed"),
            ("eval", "lr"),
            ("poison verify", "lr"),
            ("report", "config"),
        ] {
            assert!(!flags(path).iter().any(|id| id == not_obeyed), "{path} does not obey {not_obeyed}");
        }
    }
}

//! Text that fits the terminal.

/// Columns of a terminal that says nothing of its width, and the most that any text takes.
const COLUMNS: usize = 100;

/// Of the terminal, or what the environment says where there is none.
pub fn columns() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let said = || std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    terminal.or_else(said).filter(|columns| *columns > 0).map_or(COLUMNS, |columns| columns.min(COLUMNS))
}

/// `text` in lines of at most `columns` letters, broken between words; further lines are indented.
pub fn wrapped(text: &str, columns: usize) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.trim().is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::replace(&mut line, "   ".to_owned()));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_the_terminal() {
        let text = "RoCLIP: 0 of 16 targets fooled (undefended 16, clearly less), zero-shot 28.8 %.";
        for columns in [40, 60, 100] {
            let lines = wrapped(text, columns);
            assert!(lines.lines().all(|line| line.chars().count() <= columns), "{lines}");
            assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
        }
    }
}

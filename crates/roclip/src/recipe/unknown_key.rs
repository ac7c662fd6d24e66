//! A key that no recipe has: which one was meant.

use crate::recipe::reference::Section;

/// How alike two keys must be (Jaro and Winkler's measure, 1 for equal ones), so that one is taken for the other mistyped.
const ALIKE: f64 = 0.8;

/// What serde says of a recipe, where that is an unknown key with the one that it may have meant, instead of all there are: a mistyped key of the
/// same section, or that key in another section.
pub fn explained(message: &str) -> String {
    let between = |text: &str| -> Option<String> { Some(text.split_once('`')?.1.split_once('`')?.0.to_owned()) };
    let Some((before, rest)) = message.split_once("unknown field ") else { return message.to_owned() };
    let (said, after) = rest.split_at(rest.find('\n').unwrap_or(rest.len()));
    let (Some(wrong), Some((_, expected))) = (between(said), said.split_once(", expected ")) else {
        return message.to_owned();
    };
    // The list ends with the last key in backticks; behind it may stand where it was looked for.
    let (list, behind) = expected
        .split_once("` in `")
        .map_or((expected, String::new()), |(list, behind)| (list, format!(" in `{behind}")));
    let known: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    let alike = |key: &&str| strsim::jaro_winkler(key, &wrong);
    let nearest = known.iter().copied().filter(|key| alike(key) > ALIKE).max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let elsewhere = Section::of_recipe().all_keys().into_iter().find(|key| {
        key.rsplit('.').next() == Some(&wrong) && !key.split('.').any(|part| part.parse::<usize>().is_ok())
    });
    let meant = match (nearest, elsewhere) {
        (Some(key), _) => key,
        (None, Some(key)) => key,
        (None, None) => return message.to_owned(),
    };
    format!("{before}unknown field `{wrong}`{behind} (did you mean `{meant}`?){after}")
}

#[cfg(test)]
mod tests {
    use crate::recipe::Recipe;

    #[test]
    fn a_mistyped_key_is_answered_with_the_one_that_was_meant() {
        let said = |assignment: &str| Recipe::default().assign(assignment).unwrap_err().to_string();
        for (assignment, meant) in [
            ("train.epochss=3", "did you mean `epochs`?"),
            ("train.learning_rte=1", "did you mean `learning_rate`?"),
            ("data.epochs=3", "did you mean `train.epochs`?"),
            ("trian.epochs=3", "did you mean `train`?"),
        ] {
            let said = said(assignment);
            assert!(said.contains(meant) && !said.contains("expected one of"), "{said}");
        }
        assert!(said("train.zzzz=3").contains("expected one of `epochs`"), "nothing is like it");
    }
}

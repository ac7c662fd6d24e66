//! Scores of pictures that are looked at together, and how rare such scores are among trusted pictures.

use crate::detect::{InputMethod, along_first_direction, combined, p_values};
use crate::error::Result;
use crate::run::inputs::views::Group;
use crate::run::ordering::COMBINED;
use std::collections::BTreeMap;
use tch::Tensor;

/// By method: a number for each picture of a group.
type ByMethod = Vec<(&'static str, Vec<f64>)>;

/// What is said of the pictures of one group, in their order.
#[derive(Debug, PartialEq)]
pub(super) struct Scored {
    pub scores: ByMethod,
    /// Where trusted pictures are looked at, too.
    pub p_values: Option<ByMethod>,
}

/// Looks at `groups` together: nobody says which inputs carry a trigger. Where `held_out` are trusted pictures, they are among those that are
/// looked at, and say how rare a score is: they must have had no part in what made `clean`. The methods that look at one picture at a time
/// have been asked; the direction of the mixture is sought here, and the mean rank over all `methods` where there are several.
pub(super) fn together(
    methods: &[InputMethod],
    groups: &[&Group],
    held_out: Option<&Group>,
    clean: &Tensor,
) -> Result<Vec<Scored>> {
    let everyone: Vec<&Group> = groups.iter().copied().chain(held_out).collect();
    let mut of_all: ByMethod = Vec::new();
    for (number, method) in methods.iter().enumerate() {
        let scores = match method {
            InputMethod::WhitenedDirection if everyone.len() > 1 => {
                let plain: Vec<&Tensor> = everyone.iter().map(|group| &group.plain).collect();
                along_first_direction(&Tensor::cat(&plain, 0), clean)?
            }
            _ => everyone.iter().filter_map(|group| group.alone.get(number)).flatten().copied().collect(),
        };
        of_all.push((method.name(), scores));
    }
    if methods.len() > 1 {
        let scores: Vec<Vec<f64>> = of_all.iter().map(|(_, scores)| scores.clone()).collect();
        of_all.push((COMBINED, combined(&scores)));
    }
    let mut begin = 0;
    let mut by_group: Vec<ByMethod> = Vec::with_capacity(everyone.len());
    for group in &everyone {
        let own = begin..begin + group.places.len();
        begin = own.end;
        let part = |scores: &Vec<f64>| scores.get(own.clone()).unwrap_or_default().to_vec();
        by_group.push(of_all.iter().map(|(method, scores)| (*method, part(scores))).collect());
    }
    let trusted = held_out.and_then(|_| by_group.pop());
    let rare = |scores: &ByMethod| -> Option<ByMethod> {
        let known = trusted.as_ref()?.iter().zip(scores);
        Some(known.map(|((method, known), (_, own))| (*method, p_values(known, own))).collect())
    };
    Ok(by_group.into_iter().map(|scores| Scored { p_values: rare(&scores), scores }).collect())
}

/// What every method says of the picture in the row `row`.
pub(super) fn of_row(numbers: &ByMethod, row: usize) -> BTreeMap<&'static str, f64> {
    numbers.iter().filter_map(|(method, numbers)| Some((*method, *numbers.get(row)?))).collect()
}

/// The same by those methods alone whose word on a picture depends on what it is looked at with.
pub(super) fn of_row_beside(numbers: &ByMethod, row: usize) -> BTreeMap<&'static str, f64> {
    of_row(numbers, row).into_iter().filter(|(method, _)| depends_on_others(method)).collect()
}

/// Whether what `method` says of a picture depends on what it is looked at with.
pub(super) fn depends_on_others(method: &str) -> bool {
    [InputMethod::WhitenedDirection.name(), COMBINED].contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::skip::SkipReport;

    /// Two-dimensional features, and what one method says.
    fn group(plain: &[[f32; 2]], alone: &[f64]) -> Group {
        Group {
            places: (0..plain.len()).collect(),
            plain: Tensor::from_slice(&plain.concat()).view([-1, 2]),
            alone: vec![vec![0.0; plain.len()], alone.to_vec()],
            skips: SkipReport::default(),
        }
    }

    const METHODS: [InputMethod; 2] = [InputMethod::WhitenedDirection, InputMethod::Jpeg];

    #[test]
    fn trusted_pictures_say_how_rare_a_score_is_and_are_none_of_those_that_are_looked_at() {
        let clean = Tensor::from_slice(&[1.0f32, 0.0, -1.0, 0.0, 0.0, 0.1, 0.0, -0.1]).view([4, 2]);
        // All that are looked at are shifted where clean ones hardly vary: beside trusted ones that is told, alone it is in no covariance.
        let looked_at = group(&[[0.1, 0.9], [-0.1, 0.9]], &[9.0, 1.5]);
        let held_out = group(&[[0.5, 0.0], [-0.5, 0.01], [0.2, -0.01]], &[1.0, 2.0, 3.0]);
        let found = together(&METHODS, &[&looked_at], Some(&held_out), &clean).unwrap();
        assert_eq!(found.len(), 1);
        let p = found[0].p_values.as_ref().unwrap();
        assert_eq!((p[0].0, &p[0].1), ("whitened-direction", &vec![0.25, 0.25]));
        assert_eq!((p[1].0, &p[1].1), ("jpeg", &vec![0.25, 0.75]));
        assert_eq!((p[2].0, p[2].1.len(), p[2].1[0]), (COMBINED, 2, 0.25));
        let alone = together(&METHODS, &[&looked_at], None, &clean).unwrap();
        assert_eq!((alone.len(), &alone[0].p_values), (1, &None));
        assert_eq!(alone[0].scores[1].1, [9.0, 1.5]);
    }

    #[test]
    fn a_method_alone_is_its_own_mean_and_groups_keep_their_rows() {
        let [a, b] = [group(&[[1.0, 0.0]], &[1.0]), group(&[[0.0, 1.0], [1.0, 1.0]], &[2.0, 3.0])];
        let jpeg = |group: Group| Group { alone: group.alone.into_iter().skip(1).collect(), ..group };
        let [a, b] = [a, b].map(jpeg);
        let found = together(&[InputMethod::Jpeg], &[&a, &b], None, &a.plain).unwrap();
        let scores: Vec<&ByMethod> = found.iter().map(|scored| &scored.scores).collect();
        assert_eq!(scores, [&vec![("jpeg", vec![1.0])], &vec![("jpeg", vec![2.0, 3.0])]]);
        assert_eq!(of_row(&found[1].scores, 1), BTreeMap::from([("jpeg", 3.0)]));
        assert!(of_row_beside(&found[1].scores, 1).is_empty(), "nothing of it depends on the others");
    }

    /// Among exchangeable pictures a level is the share that is flagged, on average over draws.
    #[test]
    fn a_level_is_the_share_of_clean_pictures_that_reach_it() {
        use rand::RngExt;
        let mut random = roclip_data::random::stream(3, "test-levels", 0, "");
        let mut draw = |count: usize| -> Group {
            let features: Vec<[f32; 2]> = (0..count).map(|_| [random.random(), random.random()]).collect();
            let alone: Vec<f64> = (0..count).map(|_| random.random()).collect();
            group(&features, &alone)
        };
        let clean = draw(50).plain;
        let mut flagged = [0; 3];
        for _ in 0..100 {
            let (looked_at, held_out) = (draw(100), draw(39));
            let found = together(&METHODS, &[&looked_at], Some(&held_out), &clean).unwrap();
            for (count, (_, p)) in flagged.iter_mut().zip(found[0].p_values.as_ref().unwrap()) {
                *count += p.iter().filter(|p| **p <= 0.1).count();
            }
        }
        // A tenth of ten thousand; the deviation of a mean over a hundred draws of 39 is half a percent.
        assert!(flagged.iter().all(|count| (800..1200).contains(count)), "{flagged:?}");
    }
}

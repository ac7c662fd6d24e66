//! Pictures that are known to be clean, and whether there are enough of them.

use crate::error::{Error, Result};
use crate::run::inputs::TrustedPictures;
use crate::run::looked::Drop;
use rand::seq::SliceRandom;
use roclip_data::plural::count;
use roclip_data::random;
use roclip_data::sample::Sample;
use roclip_data::skip::SkipReport;

/// The most pictures that anybody is asked to name.
const MOST_ASKED: f64 = 1e9;

/// Which pictures are clean.
pub enum KnownClean {
    /// A random half of those that are named.
    Half,
    /// Others: half of them say how clean pictures vary, the other half how rare a score is.
    Trusted { trusted: TrustedPictures, level: f64 },
}

/// How the pictures are divided.
pub(super) struct Divided {
    pub looked_at: Vec<Sample>,
    pub statistics: Vec<Sample>,
    pub held_out: Option<(Vec<Sample>, f64)>,
    /// Trusted pictures that were left out as copies of others.
    pub copies: usize,
    /// Trusted pictures that were left out when they were listed.
    pub trusted_skips: SkipReport,
}

/// Divides the pictures into those that are looked at and those that are known to be clean.
pub(super) fn divided(mut pictures: Vec<Sample>, clean: KnownClean, seed: u64) -> Result<Divided> {
    match clean {
        KnownClean::Half => {
            pictures.shuffle(&mut random::stream(seed, "detect-inputs", 0, ""));
            let looked_at = pictures.split_off(pictures.len() / 2);
            if pictures.len() < 2 {
                return Err(Error::setting(
                    format!(
                        "there are {} labelled images, of which half must be known to be clean",
                        pictures.len() + looked_at.len()
                    ),
                    "give more with --val-data, or clean ones with --trusted-data",
                ));
            }
            Ok(Divided {
                looked_at,
                statistics: pictures,
                held_out: None,
                copies: 0,
                trusted_skips: SkipReport::default(),
            })
        }
        KnownClean::Trusted { trusted, level } => {
            let TrustedPictures { pictures: mut statistics, copies, skips: trusted_skips } = trusted;
            statistics.shuffle(&mut random::stream(seed, "detect-trusted", 0, ""));
            let held_out = statistics.split_off(statistics.len() / 2);
            let all = statistics.len() + held_out.len();
            check_level(level, all, held_out.len(), copies)?;
            if statistics.len() < 2 {
                return Err(Error::setting(
                    format!("--trusted-data has {}, of which half say how clean ones vary", count(all, "picture")),
                    "name at least 4",
                ));
            }
            Ok(Divided { looked_at: pictures, statistics, held_out: Some((held_out, level)), copies, trusted_skips })
        }
    }
}

/// Whether `held_out` of `trusted` pictures, which `copies` of them were left out of, can state the level: the least p-value is that of a
/// picture beyond all of them.
pub(super) fn check_level(level: f64, trusted: usize, held_out: usize, copies: usize) -> Result<()> {
    Drop::Level(level).check()?;
    if level >= 1.0 / (held_out + 1) as f64 {
        return Ok(());
    }
    let least = 2.0 * ((1.0 / level).ceil() - 1.0) - 1.0;
    let left_out = match copies {
        0 => String::new(),
        1 => " (a copy of one of them does not count)".to_owned(),
        copies => format!(" ({copies} copies of them do not count)"),
    };
    // Nobody has so many pictures, and hundreds of digits tell nothing.
    let (level, remedy) = match least > MOST_ASKED {
        true => (format!("{level:e}"), "raise --level".to_owned()),
        false => (level.to_string(), format!("name at least {least:.0} with --trusted-data, or raise --level")),
    };
    Err(Error::setting(
        format!(
            "--level {level} beside {}{left_out}, of which {held_out} are held out to state it: no picture can be so suspicious, since the \
             least p-value beside them is 1/{}",
            count(trusted, "trusted picture"),
            held_out + 1
        ),
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::sample::ImageBytes;

    fn pictures(count: usize) -> Vec<Sample> {
        let one = |number: usize| Sample::new("s".into(), number.to_string(), ImageBytes::Memory(Vec::new().into()));
        (0..count).map(one).collect()
    }

    fn ids(samples: &[Sample]) -> Vec<&str> {
        samples.iter().map(|sample| sample.id.as_str()).collect()
    }

    #[test]
    fn half_of_the_trusted_pictures_make_the_statistics_and_all_others_are_looked_at() {
        let trusted = |count, level| {
            let trusted = TrustedPictures { pictures: pictures(count), copies: 0, skips: SkipReport::default() };
            KnownClean::Trusted { trusted, level }
        };
        let found = divided(pictures(7), trusted(39, 0.05), 1).unwrap();
        let (held_out, level) = found.held_out.as_ref().unwrap();
        assert_eq!((found.statistics.len(), held_out.len(), *level), (19, 20, 0.05));
        assert!(ids(&found.statistics).iter().all(|id| !ids(held_out).contains(id)));
        assert_eq!(ids(&found.looked_at), ids(&pictures(7)));
        let half = divided(pictures(7), KnownClean::Half, 1).unwrap();
        assert_eq!((half.statistics.len(), half.looked_at.len(), half.held_out.is_none()), (3, 4, true));
        for (count, clean) in
            [(3, KnownClean::Half), (7, trusted(3, 0.4)), (7, trusted(60, 1.0)), (7, trusted(60, f64::NAN))]
        {
            assert!(divided(pictures(count), clean, 1).is_err());
        }
    }

    #[test]
    fn a_level_that_the_trusted_pictures_cannot_state_is_refused() {
        let said = check_level(0.05, 36, 18, 0).unwrap_err().to_string();
        for words in
            ["--level 0.05 beside 36 trusted pictures", "18 are held out", "1/19", "at least 37 with --trusted-data"]
        {
            assert!(said.contains(words), "{said}");
        }
        check_level(0.05, 37, 19, 0).unwrap();
        assert!(check_level(0.01, 196, 98, 0).is_err() && check_level(0.01, 197, 99, 0).is_ok());
        let said = check_level(0.05, 1, 1, 49).unwrap_err().to_string();
        assert!(said.contains("1 trusted picture (49 copies of them do not count)"), "{said}");
        let said = check_level(1e-300, 40, 20, 0).unwrap_err().to_string();
        assert!(said.contains("--level 1e-300 beside") && said.contains("raise --level") && said.len() < 300, "{said}");
    }
}

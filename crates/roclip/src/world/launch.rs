//! What a launcher says of the processes that it started: torchrun, or whoever sets its variables.

use crate::error::{Error, Result};
use std::time::Duration;
use torch_bridge::Rendezvous;

/// One of several processes, as its environment says: `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub rank: usize,
    pub size: usize,
    pub host: String,
    pub port: u16,
    /// Whether torchrun serves the store; else the first process does.
    pub agent_serves: bool,
    /// Of the keys in the store: each start has its own.
    prefix: String,
}

/// The variables that name a process's place among others: no child of one of them takes that place, too.
pub const VARIABLES: [&str; 5] = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"];

/// More processes than any machine room has: a `WORLD_SIZE` beyond it is a slip.
const MOST_PROCESSES: usize = 1_000_000;

impl Launch {
    /// What the environment says; none where this is the only process.
    ///
    /// # Errors
    /// A variable that is missing or makes no sense.
    pub fn from_environment() -> Result<Option<Launch>> {
        Launch::read(&said)
    }

    /// # Errors
    /// A number that none of the processes of the environment has; what it does would be done twice.
    pub fn check_rank() -> Result<()> {
        Launch::check_numbers(&|name| std::env::var(name).ok())
    }

    /// The place of this process among those of its machine, as torchrun says it; none where this is the only process, or nobody says it.
    ///
    /// # Errors
    /// A place that is no number.
    pub fn local_rank() -> Result<Option<usize>> {
        Launch::read_local_rank(&said)
    }

    /// How often a launcher has started this process and those beside it again; 0 where there is no launcher. One process has one, too.
    ///
    /// # Errors
    /// A count that is no number.
    pub fn restarts() -> Result<u64> {
        Launch::read_restarts(&said)
    }

    fn read_restarts(variable: &dyn Fn(&str) -> Option<String>) -> Result<u64> {
        const NAME: &str = "TORCHELASTIC_RESTART_COUNT";
        // What a process starts has the count of its parent, and no number of processes.
        match variable("WORLD_SIZE").and(variable(NAME)) {
            None => Ok(0),
            Some(value) => number(NAME, &value),
        }
    }

    fn read_local_rank(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<usize>> {
        const NAME: &str = "LOCAL_RANK";
        match Launch::read(variable)? {
            None => Ok(None),
            Some(Launch { size, .. }) => {
                let place = variable(NAME).map(|value| number(NAME, &value)).transpose()?;
                match place.filter(|place| *place >= size) {
                    None => Ok(place),
                    Some(place) => Err(Error::setting(
                        format!("LOCAL_RANK is {place}, and WORLD_SIZE {size}"),
                        "number the processes of each machine from 0, or unset LOCAL_RANK",
                    )),
                }
            }
        }
    }

    fn check_numbers(variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        let read = |name: &str| variable(name).and_then(|value| value.trim().parse::<usize>().ok());
        match read("RANK").zip(read("WORLD_SIZE")).filter(|(rank, size)| rank >= size) {
            None => Ok(()),
            Some((rank, size)) => Err(Error::setting(
                format!("RANK is {rank}, and WORLD_SIZE {size}"),
                "number the processes from 0 to WORLD_SIZE - 1",
            )),
        }
    }

    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Launch>> {
        let Some(size) = variable("WORLD_SIZE") else {
            return match variable("RANK").filter(|rank| rank != "0") {
                None => Ok(None),
                Some(rank) => Err(Error::setting(
                    format!(
                        "RANK is {rank}, and WORLD_SIZE is not set: this process would train alone, as would each of the others"
                    ),
                    "start all processes with torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each; unset RANK to work \
                     in one process",
                )),
            };
        };
        let size: usize = number("WORLD_SIZE", &size)?;
        if size > MOST_PROCESSES {
            return Err(Error::setting(
                format!("WORLD_SIZE is {size}, which is no number of processes (at most {MOST_PROCESSES})"),
                "set it to how many processes share the work, or unset it to work in one process",
            ));
        }
        Launch::check_numbers(variable)?;
        if size < 2 {
            return Ok(None);
        }
        let needed = |name: &str| {
            variable(name).ok_or_else(|| {
                Error::setting(
                    format!("WORLD_SIZE is {size}, and {name} is not set"),
                    "start all processes with torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each; unset WORLD_SIZE to \
                     work in one process",
                )
            })
        };
        let rank: usize = number("RANK", &needed("RANK")?)?;
        let port: u16 = number("MASTER_PORT", &needed("MASTER_PORT")?)?;
        if port == 0 {
            return Err(Error::setting("MASTER_PORT is 0", "set it to one free port, the same for all processes"));
        }
        let restarts = Launch::read_restarts(variable)?;
        Ok(Some(Launch {
            rank,
            size,
            host: needed("MASTER_ADDR")?,
            port,
            agent_serves: variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True"),
            prefix: format!("roclip/{restarts}"),
        }))
    }

    pub(super) fn rendezvous(&self, timeout: Duration) -> Rendezvous<'_> {
        let Launch { rank, size, ref host, port, agent_serves, ref prefix, .. } = *self;
        Rendezvous { host, port, rank, size, serve: rank == 0 && !agent_serves, prefix, timeout }
    }
}

/// What the environment says; an empty variable says nothing.
fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value.trim().parse().map_err(|_| {
        Error::setting(
            format!("the environment's {name} is `{value}`"),
            match name {
                "MASTER_PORT" => "a launcher sets it to a number from 1 to 65535: correct or unset it",
                _ => "a launcher sets it to a number: correct or unset it",
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::read(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn one_process_is_no_launch_and_several_need_to_find_each_other() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(), None);
        assert_eq!(read(&[("RANK", "0")]).unwrap(), None);
        let lone = read(&[("RANK", "1")]).unwrap_err().to_string();
        assert!(lone.contains("RANK is 1, and WORLD_SIZE is not set"), "{lone}");
        let plain = [("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_ADDR", "host"), ("MASTER_PORT", "29500")];
        let launch = read(&plain).unwrap().unwrap();
        assert_eq!((launch.rank, launch.size, launch.host.as_str(), launch.port), (1, 2, "host", 29500));
        assert!(!launch.rendezvous(Duration::ZERO).serve);
        let first = read(&[&plain[..1], &[("RANK", "0")], &plain[2..]].concat()).unwrap().unwrap();
        assert!(first.rendezvous(Duration::ZERO).serve);
        for (name, value, told) in [
            ("WORLD_SIZE", "1000000000000", "no number of processes"),
            ("MASTER_PORT", "0", "MASTER_PORT is 0"),
            ("MASTER_PORT", "1000000000000", "from 1 to 65535"),
            ("RANK", "1000000000000", "RANK is 1000000000000, and WORLD_SIZE 2"),
        ] {
            let error = read(&[&[(name, value)], &plain[..]].concat()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        for missing in ["RANK", "MASTER_ADDR", "MASTER_PORT"] {
            let left: Vec<_> = plain.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = read(&left).unwrap_err().to_string();
            assert!(error.contains(missing) && error.contains("torchrun"), "{error}");
        }
        for (name, value) in [("RANK", "2"), ("RANK", "x"), ("MASTER_PORT", "99999"), ("WORLD_SIZE", "-1")] {
            let error = read(&[&[(name, value)], &plain[..]].concat()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_place_on_a_machine_counts_among_several_processes_only() {
        let of = |variables: &[(&str, &str)]| {
            Launch::read_local_rank(&|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let several = [("WORLD_SIZE", "4"), ("RANK", "3"), ("MASTER_ADDR", "host"), ("MASTER_PORT", "29500")];
        assert_eq!(of(&[("LOCAL_RANK", "1")]).unwrap(), None);
        assert_eq!(of(&several).unwrap(), None);
        assert_eq!(of(&[&several[..], &[("LOCAL_RANK", "1")]].concat()).unwrap(), Some(1));
        let error = of(&[&several[..], &[("LOCAL_RANK", "x")]].concat()).unwrap_err().to_string();
        assert!(error.contains("LOCAL_RANK is `x`"), "{error}");
        let error = of(&[&several[..], &[("LOCAL_RANK", "1000000000000")]].concat()).unwrap_err().to_string();
        assert!(error.contains("LOCAL_RANK is 1000000000000, and WORLD_SIZE 4"), "{error}");
    }

    #[test]
    fn torchrun_serves_the_store_and_each_restart_has_its_own_keys() {
        let variables = [
            ("WORLD_SIZE", "2"),
            ("RANK", "0"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "1"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ];
        let launch = read(&variables).unwrap().unwrap();
        let rendezvous = launch.rendezvous(Duration::ZERO);
        assert!(!rendezvous.serve);
        assert_eq!(rendezvous.prefix, "roclip/2");
    }

    #[test]
    fn a_launcher_that_starts_one_process_says_how_often_too() {
        let of = |variables: &[(&str, &str)]| {
            Launch::read_restarts(&|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let count = ("TORCHELASTIC_RESTART_COUNT", "3");
        assert_eq!(of(&[("WORLD_SIZE", "1"), count]).unwrap(), 3);
        assert_eq!(of(&[count]).unwrap(), 0, "of a parent");
        assert!(
            of(&[("WORLD_SIZE", "1"), ("TORCHELASTIC_RESTART_COUNT", "x")]).unwrap_err().to_string().contains("`x`")
        );
    }
}

//! The `roclip` binary.

use roclip_cli::{Invocation, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(run(Invocation::of_this_process()))
}

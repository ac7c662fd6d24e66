//! `roclip completions` and `roclip man`: what shells and `man` read, made from the same flags as the help.

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use roclip_data::artifact;
use std::path::PathBuf;

#[derive(Args)]
pub struct CompletionsArguments {
    /// The shell that completes
    shell: Shell,
}

#[derive(Args)]
pub struct ManArguments {
    /// Folder for roclip.1 and a page for each command
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub fn completions(arguments: CompletionsArguments, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "roclip", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(())
}

pub fn man(arguments: ManArguments, mut command: Command) -> Result<()> {
    command.build();
    let mut pages = 0;
    let mut waiting = vec![(String::from("roclip"), command)];
    while let Some((name, command)) = waiting.pop() {
        let below = command.get_subcommands();
        waiting.extend(below.map(|sub| (format!("{name}-{}", sub.get_name()), sub.clone())));
        let mut page = Vec::new();
        clap_mangen::Man::new(command).title(&name).render(&mut page).with_context(|| format!("the page of {name}"))?;
        artifact::write(&arguments.out.join(format!("{name}.1")), &page)?;
        pages += 1;
    }
    println!("{}: {pages} pages", arguments.out.display());
    Ok(())
}

//! Lets the linked programs find libtorch without LD_LIBRARY_PATH: link arguments of a dependency do not reach them. And the commit that the
//! program is built from, for `roclip --version` and `env.json`: `ROCLIP_COMMIT` where a packager sets it, or git's, or `unknown`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    println!("cargo::rerun-if-env-changed=ROCLIP_COMMIT");
    let commit = std::env::var("ROCLIP_COMMIT").ok().or_else(of_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=ROCLIP_COMMIT={commit}");
}

fn of_git() -> Option<String> {
    // A source tree that was unpacked inside somebody else's repository is not of that repository's commit.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    if !root.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD"].into_iter().chain(branch.as_deref()).chain(["packed-refs"]) {
        // A branch may stand in `packed-refs` alone; a file that is not there would build the program again every time.
        if let Some(path) =
            git(&["rev-parse", "--git-path", name]).map(|path| root.join(path)).filter(|path| path.is_file())
        {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
